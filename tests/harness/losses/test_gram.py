"""Gram anchoring against the recipe's value, plain loops and what must always hold."""

import math

import pytest
import torch
from torch.testing import assert_close

from common.errors import BadInput
from harness.losses.gram import gram_loss

LEVELS = ["image", "batch"]
NEGATIVES = ["keep", "clamp", "clamp_teacher"]


def patches(images=3, count=5, width=4, seed=0, dtype=torch.float64):
    return torch.randn(images, count, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    lengths = [math.sqrt(sum(x * x for x in row)) for row in (a, b)]
    return sum(x * y for x, y in zip(a, b, strict=True)) / (lengths[0] * lengths[1])


def in_plain_loops(student, teacher, level, negatives):
    if level == "batch":
        student, teacher = student.flatten(0, 1)[None], teacher.flatten(0, 1)[None]
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
    assert_close(gram_loss(student, teacher) * 9, want.new_tensor(4.0))


@pytest.mark.parametrize(("images", "count", "width"), [(1, 1, 1), (1, 4, 2), (3, 5, 4), (2, 9, 3)])
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("negatives", NEGATIVES)
def test_gram_equals_plain_loops(images, count, width, level, negatives):
    student, teacher = patches(images, count, width, seed=1), patches(images, count, width, seed=2)
    want = in_plain_loops(student, teacher, level, negatives)
    assert_close(gram_loss(student, teacher, level, negatives), want)
    got = gram_loss(student.float(), teacher.float(), level, negatives)
    assert_close(got, want.float(), atol=1e-5, rtol=1e-5)


def test_the_three_ways_with_negatives_differ_where_there_are_negatives():
    student, teacher = patches(seed=3), patches(seed=4)
    assert len({float(gram_loss(student, teacher, "image", negatives)) for negatives in NEGATIVES}) == 3


def test_the_image_level_ignores_and_the_batch_level_sees_how_images_relate():
    draw = torch.linalg.qr(torch.stack([patches(1, 4, 4, seed=s)[0] for s in range(3)])).Q
    student, teacher = patches(), patches() @ draw  # each image turned in its own way
    assert_close(gram_loss(student, teacher), torch.tensor(0.0, dtype=torch.float64), atol=1e-12, rtol=0)
    assert gram_loss(student, teacher, "batch") > 1e-3


@pytest.mark.parametrize("level", LEVELS)
def test_gram_is_blind_to_rotation_and_length(level):
    turn = torch.linalg.qr(patches(1, 4, 4, seed=9)[0]).Q
    student, teacher = patches(seed=5), patches(seed=6)
    lengths = 0.1 + patches(3, 5, 1, seed=7).abs()
    assert_close(gram_loss(student @ turn * lengths, teacher, level), gram_loss(student, teacher, level))


@pytest.mark.parametrize("level", LEVELS)
def test_patches_and_images_may_come_in_any_order(level):
    student, teacher = patches(seed=5), patches(seed=6)
    shuffled = (x[[2, 0, 1]][:, [4, 1, 0, 3, 2]] for x in (student, teacher))
    assert_close(gram_loss(*shuffled, level), gram_loss(student, teacher, level))


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
        lambda s: gram_loss(s, teacher, level, negatives), patches(2, 3, 4, seed=1).requires_grad_()
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
    want = gram_loss(student.float(), teacher.float(), level)
    with torch.autocast("cpu", torch.bfloat16):
        got = gram_loss(student, teacher, level)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


def test_a_teacher_of_another_width_is_fine():
    assert gram_loss(patches(width=4), patches(width=7, seed=1)) > 0


@pytest.mark.parametrize(
    ("student", "teacher", "options", "words"),
    [
        ((2, 9, 4), (2, 36, 4), {}, r"got student \[2, 9, 4\], teacher \[2, 36, 4\]: want \[B, P, D\].*resize"),
        ((2, 9, 4), (3, 9, 4), {}, "same images and patches"),
        ((9, 4), (9, 4), {}, r"want \[B, P, D\]"),
        ((2, 0, 4), (2, 0, 4), {}, "want no empty axis"),
        ((2, 9, 4), (2, 9, 4), {"level": "patch"}, "got level='patch': want 'image' or 'batch'"),
        ((2, 9, 4), (2, 9, 4), {"negatives": "drop"}, "got negatives='drop': want one of keep, clamp, clamp_teacher"),
    ],
)
def test_impossible_input_is_refused_in_one_line(student, teacher, options, words):
    with pytest.raises(BadInput, match=words):
        gram_loss(torch.zeros(student), torch.zeros(teacher), **options)


@pytest.mark.parametrize("level", LEVELS)
def test_gram_runs_on_the_meta_device(level):
    student = torch.empty(2, 3, 4, device="meta", requires_grad=True)
    loss = gram_loss(student, torch.empty(2, 3, 4, device="meta"), level, "clamp")
    loss.backward()
    assert loss.shape == ()
