"""The Gram loss against the recipe's value, plain loops and what must always hold."""

import math

import pytest
import torch
from torch.testing import assert_close

from common.errors import BadInput
from harness.losses.relations.difference import gram_difference, in_channels
from harness.losses.relations.gram import gram_loss

LEVELS = ["image", "batch"]
NEGATIVES = ["keep", "clamp", "clamp_teacher"]


def patches(images=3, count=5, width=4, seed=0, dtype=torch.float64):
    return torch.randn(images, count, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def as_sets(x, level):
    """The patches of each image, or of all."""
    return x if level == "image" else x.flatten(0, 1)[None]


def loss_at(level, student, teacher, negatives="keep"):
    return gram_loss(as_sets(student, level), as_sets(teacher, level), negatives)


def cosine(a, b):
    lengths = [math.sqrt(sum(x * x for x in row)) for row in (a, b)]
    return sum(x * y for x, y in zip(a, b, strict=True)) / (lengths[0] * lengths[1])


def in_plain_loops(student, teacher, level, negatives):
    student, teacher = as_sets(student, level), as_sets(teacher, level)
    squares = []
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        for i in range(len(ours)):
            for j in range(len(ours)):
                s, t = cosine(ours[i], ours[j]), cosine(theirs[i], theirs[j])
                s = max(s, 0.0) if negatives == "clamp" else s
                t = max(t, 0.0) if negatives != "keep" else t
                squares.append((s - t) ** 2)
    return torch.tensor(sum(squares) / len(squares), dtype=torch.float64)


def test_gram_gives_the_value_of_the_recipe():
    student = torch.tensor([[[1, 0], [0, 1], [1, 1]]], dtype=torch.float64)
    teacher = torch.tensor([[[1, 0], [1, 0], [0, 1]]], dtype=torch.float64)
    want = torch.tensor(0.444444, dtype=torch.float64)
    assert_close(gram_loss(student, teacher), want, atol=5e-7, rtol=0)
    assert_close(gram_loss(student, teacher, form="frobenius"), want.new_tensor(4.0))


@pytest.mark.parametrize(("images", "count", "width"), [(1, 1, 1), (1, 4, 2), (3, 5, 4), (2, 9, 3)])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_gram_equals_plain_loops(images, count, width, level, negatives):
    student, teacher = patches(images, count, width, seed=1), patches(images, count, width, seed=2)
    want = in_plain_loops(student, teacher, level, negatives)
    assert_close(loss_at(level, student, teacher, negatives), want)
    got = loss_at(level, student.float(), teacher.float(), negatives)
    assert_close(got, want.float(), atol=1e-5, rtol=1e-5)


def test_the_three_ways_with_negatives_differ_where_there_are_negatives():
    student, teacher = patches(seed=3), patches(seed=4)
    assert len({float(gram_loss(student, teacher, negatives)) for negatives in NEGATIVES}) == 3


def test_the_image_level_ignores_and_the_batch_level_sees_how_images_relate():
    draw = torch.linalg.qr(torch.stack([patches(1, 4, 4, seed=s)[0] for s in range(3)])).Q
    student, teacher = patches(), patches() @ draw  # each image turned in its own way
    assert_close(gram_loss(student, teacher), torch.tensor(0.0, dtype=torch.float64), atol=1e-12, rtol=0)
    assert loss_at("batch", student, teacher) > 1e-3


@pytest.mark.parametrize("level", LEVELS)
def test_gram_is_blind_to_rotation_and_length(level):
    turn = torch.linalg.qr(patches(1, 4, 4, seed=9)[0]).Q
    student, teacher = patches(seed=5), patches(seed=6)
    lengths = 0.1 + patches(3, 5, 1, seed=7).abs()
    assert_close(loss_at(level, student @ turn * lengths, teacher), loss_at(level, student, teacher))


@pytest.mark.parametrize("level", LEVELS)
def test_patches_and_images_may_come_in_any_order(level):
    student, teacher = patches(seed=5), patches(seed=6)
    shuffled = (x[[2, 0, 1]][:, [4, 1, 0, 3, 2]] for x in (student, teacher))
    assert_close(loss_at(level, *shuffled), loss_at(level, student, teacher))


def test_equal_patches_lose_nothing():
    assert gram_loss(patches(), patches()) == 0


def test_gram_sends_no_gradient_to_the_gram_teacher():
    student, teacher = patches(seed=1).requires_grad_(), patches(seed=2).requires_grad_()
    gram_loss(student, teacher).backward()
    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_gram_gradients_are_right(level, negatives):
    teacher = patches(2, 3, 4, seed=2)
    assert torch.autograd.gradcheck(
        lambda s: loss_at(level, s, teacher, negatives), patches(2, 3, 4, seed=1).requires_grad_()
    )


@pytest.mark.parametrize("factor", [0.0, 1e-6, 1e4])
def test_zero_tiny_and_huge_patches_give_finite_values_and_gradients(factor):
    student = (factor * patches(dtype=torch.float32)).requires_grad_()
    loss = gram_loss(student, factor * patches(seed=1, dtype=torch.float32))
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("level", LEVELS)
def test_half_precision_is_worked_in_float32_whatever_the_autocast(dtype, level):
    student, teacher = (patches(seed=s, dtype=torch.float32).to(dtype) for s in (1, 2))
    want = loss_at(level, student.float(), teacher.float())
    with torch.autocast("cpu", torch.bfloat16):
        got = loss_at(level, student, teacher)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


def test_a_teacher_of_another_width_is_fine():
    assert gram_loss(patches(width=4), patches(width=7, seed=1)) > 0


def directly(student, teacher, level):
    """The loss and its gradient in float64 between patches."""
    student, teacher = student.detach().double().requires_grad_(), teacher.double()
    units = (torch.nn.functional.normalize(x, dim=-1) for x in (student, teacher))
    one, other = (as_sets(x, level) for x in units)
    loss = (one @ one.mT - other @ other.mT).square().mean()
    return loss.detach(), torch.autograd.grad(loss, student)[0]


@pytest.mark.parametrize("distance", [1.0, 1e-1, 1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("level", LEVELS)
def test_the_form_between_channels_keeps_its_digits_however_near_the_teacher_is(level, distance):
    """Down to losses of 1e-9, where a teacher that was just renewed lies (dense-health facts, last section)."""
    teacher = patches(2, 256, 24, seed=1, dtype=torch.float32)
    student = teacher + distance * patches(2, 256, 24, seed=2, dtype=torch.float32)
    assert in_channels(256, 24)
    units = [torch.nn.functional.normalize(x, dim=-1) for x in (student, teacher)]
    sets = [as_sets(x, level) for x in units]
    sets[0].requires_grad_()
    loss = gram_difference(*sets)
    exact = [x.detach().double().requires_grad_() for x in sets]
    want = (exact[0] @ exact[0].mT - exact[1] @ exact[1].mT).square().mean()
    assert want < 1e-9 or distance > 1e-4
    assert_close(loss.double(), want, rtol=1e-6, atol=0)
    got, gradient = (torch.autograd.grad(one, x)[0] for one, x in ((loss, sets[0]), (want, exact[0])))
    assert (got - gradient).norm() < 1e-6 * gradient.norm()


@pytest.mark.parametrize("distance", [1.0, 1e-2, 1e-4])
@pytest.mark.parametrize("level", LEVELS)
def test_the_loss_between_channels_is_as_right_as_directions_in_float32_allow(level, distance):
    teacher = patches(2, 256, 24, seed=1, dtype=torch.float32)
    student = (teacher + distance * patches(2, 256, 24, seed=2, dtype=torch.float32)).requires_grad_()
    loss = loss_at(level, student, teacher)
    loss.backward()
    want, gradient = directly(student, teacher, level)
    rounded = 2**-23 / distance  # of the difference of two directions
    assert_close(loss.double(), want, rtol=max(1e-6, rounded), atol=0)
    assert student.grad is not None
    assert (student.grad - gradient).norm() < max(1e-6, rounded) * gradient.norm()


def test_both_forms_give_the_same_loss_and_gradient(monkeypatch):
    student, teacher = patches(2, 20, 4, seed=1).requires_grad_(), patches(2, 20, 4, seed=2)
    for level in LEVELS:
        want, gradient = directly(student, teacher, level)
        for pays in (0, math.inf):
            monkeypatch.setattr("harness.losses.relations.difference.PAYS", pays)
            loss = loss_at(level, student, teacher)
            assert_close(loss, want)
            assert_close(torch.autograd.grad(loss, student)[0], gradient)


def test_a_student_that_is_its_teacher_turned_loses_nothing_that_matters_between_channels():
    """Its patches differ from the teacher's as much as can be, which costs this form digits, to about 1e-9."""
    teacher = patches(2, 256, 24, seed=1, dtype=torch.float32)
    student = teacher @ torch.linalg.qr(patches(1, 24, 24, seed=3, dtype=torch.float32)[0]).Q
    assert gram_loss(student, teacher).abs() < 1e-8


@pytest.mark.parametrize(
    ("count", "width", "other", "found"),
    [
        (64, 96, 96, False),  # the nano model, and ViT-S/16 at 224 pixels: their runs keep their bits
        (196, 384, 384, False),
        (768, 384, 384, False),
        (769, 384, 384, True),
        (1024, 384, 768, False),  # there is no difference of patches of two widths
        (2 * 16 * 64, 96, 96, True),  # the nano model's batch
    ],
)
def test_channels_are_taken_where_patches_are_more_than_twice_as_many_and_widths_agree(count, width, other, found):
    assert in_channels(count, width, other) is found


def test_memory_grows_with_the_square_of_the_patches_between_patches_alone():
    def largest(count, width):
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            gram_difference(*(patches(1, count, width, seed=s).requires_grad_() for s in (1, 2)))
        return max(kept)

    assert largest(64, 32) == 64**2
    assert largest(4096, 32) == 4096 * 32


@pytest.mark.parametrize(
    ("student", "teacher", "options", "words"),
    [
        ((2, 9, 4), (2, 36, 4), {}, r"got student \[2, 9, 4\], teacher \[2, 36, 4\]: want \[B, P, D\].*resize"),
        ((2, 9, 4), (3, 9, 4), {}, "same images and patches"),
        ((9, 4), (9, 4), {}, r"want \[B, P, D\]"),
        ((2, 0, 4), (2, 0, 4), {}, "want no empty axis"),
        ((2, 9, 4), (2, 9, 4), {"negatives": "drop"}, "got negatives='drop': want one of keep, clamp, clamp_teacher"),
    ],
)
def test_impossible_input_is_refused_in_one_line(student, teacher, options, words):
    with pytest.raises(BadInput, match=words):
        gram_loss(torch.zeros(student), torch.zeros(teacher), **options)


@pytest.mark.parametrize("level", LEVELS)
def test_gram_runs_on_the_meta_device(level):
    student = torch.empty(2, 3, 4, device="meta", requires_grad=True)
    loss = loss_at(level, student, torch.empty(2, 3, 4, device="meta"), "clamp")
    loss.backward()
    assert loss.shape == ()
