"""The DINO loss against plain loops and what must always hold."""

import math

import pytest
import torch
from torch.testing import assert_close

from common.errors import BadInput
from harness.losses.cross_entropy import Scores
from harness.losses.dino import dino_loss


def views(count, images=3, prototypes=5, seed=0, dtype=torch.float64):
    return torch.randn(count, images, prototypes, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def scored(logits):
    """Scores whose logits are these."""
    return Scores(logits, torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device))


def in_plain_loops(student, teacher, temperature, ignore_diagonal):
    total, pairs = 0.0, 0
    for s in range(len(student)):
        for t in range(len(teacher)):
            if ignore_diagonal and s == t:
                continue
            pairs += 1
            for logits, probs in zip(student[s].tolist(), teacher[t].tolist(), strict=True):
                top = max(logits)
                norm = math.log(sum(math.exp((x - top) / temperature) for x in logits)) + top / temperature
                total -= sum(p * (x / temperature - norm) for p, x in zip(probs, logits, strict=True))
    return torch.tensor(total / (pairs * student.shape[1]), dtype=torch.float64)


@pytest.mark.parametrize(("students", "teachers"), [(2, 2), (8, 2), (1, 2), (3, 1), (4, 4)])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("ignore_diagonal", [False, True])
def test_dino_equals_plain_loops(students, teachers, temperature, ignore_diagonal):
    student, teacher = views(students, seed=1), views(teachers, seed=2).softmax(-1)
    want = in_plain_loops(student, teacher, temperature, ignore_diagonal)
    assert_close(dino_loss(scored(student), teacher, temperature, ignore_diagonal), want)
    got = dino_loss(scored(student.float()), teacher.float(), temperature, ignore_diagonal)
    assert_close(got, want.float(), atol=1e-5, rtol=1e-5)


def test_the_global_loss_skips_the_two_equal_pairs_of_four():
    student, teacher = views(2, seed=3), views(2, seed=4).softmax(-1)
    crossed = (dino_loss(scored(student[:1]), teacher[1:]) + dino_loss(scored(student[1:]), teacher[:1])) / 2
    assert_close(dino_loss(scored(student), teacher, ignore_diagonal=True), crossed)


def test_uniform_students_lose_the_log_of_the_prototypes():
    assert_close(dino_loss(scored(torch.zeros(2, 3, 7)), views(2, 3, 7).softmax(-1).float()), torch.tensor(math.log(7)))


@pytest.mark.parametrize("ignore_diagonal", [False, True])
def test_dino_gradients_are_right(ignore_diagonal):
    student, teacher = views(3, 2, 4, seed=5).requires_grad_(), views(2, 2, 4, seed=6).softmax(-1)
    dino_loss(scored(student), teacher, 0.5, ignore_diagonal).backward()
    log_p = (student / 0.5).log_softmax(-1)
    pairs = [-(t * s).sum(-1).mean() for i, s in enumerate(log_p) for j, t in enumerate(teacher)
             if not (ignore_diagonal and i == j)]  # fmt: skip
    assert_close(student.grad, torch.autograd.grad(torch.stack(pairs).mean(), student)[0])


def test_dino_sends_no_gradient_to_the_teacher():
    student, teacher = views(2).requires_grad_(), views(2, seed=1).softmax(-1).requires_grad_()
    dino_loss(scored(student), teacher).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_images_and_prototypes_may_come_in_any_order():
    student, teacher = views(4, seed=7), views(2, seed=8).softmax(-1)
    images, prototypes = torch.tensor([2, 0, 1]), torch.tensor([4, 2, 0, 1, 3])
    student_too, teacher_too = (x[:, images][..., prototypes] for x in (student, teacher))
    assert_close(
        dino_loss(scored(student_too), teacher_too, ignore_diagonal=True),
        dino_loss(scored(student), teacher, ignore_diagonal=True),
    )


def test_huge_logits_stay_finite_with_finite_gradients():
    student = (1e4 * views(2, seed=9, dtype=torch.float32)).requires_grad_()
    loss = dino_loss(scored(student), views(2, seed=10, dtype=torch.float32).softmax(-1), ignore_diagonal=True)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_worked_in_float32_whatever_the_autocast(dtype):
    student, teacher = views(3, dtype=torch.float32).to(dtype), views(2, dtype=torch.float32).softmax(-1)
    want = dino_loss(scored(student.float()), teacher)
    with torch.autocast("cpu", torch.bfloat16):
        got = dino_loss(scored(student), teacher)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


@pytest.mark.parametrize("ignore_diagonal", [False, True])
def test_targets_of_half_precision_are_added_up_in_float32(ignore_diagonal):
    student, teacher = views(3, seed=1), views(6, seed=2).softmax(-1).bfloat16()
    want = dino_loss(scored(student), teacher.double(), ignore_diagonal=ignore_diagonal)
    got = dino_loss(scored(student.float()), teacher, ignore_diagonal=ignore_diagonal)
    assert_close(got, want.float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("student", "teacher", "options", "words"),
    [
        ((2, 3, 4), (2, 3, 5), {}, r"got student \[2, 3, 4\], teacher \[2, 3, 5\]: want \[S, B, K\] and \[T, B, K\]"),
        ((2, 3, 4), (2, 2, 4), {}, "same images and prototypes"),
        ((3, 4), (2, 3, 4), {}, r"want \[S, B, K\]"),
        ((2, 0, 4), (2, 0, 4), {}, "want no empty axis"),
        ((2, 3, 4), (0, 3, 4), {}, "want no empty axis"),
        ((1, 3, 4), (1, 3, 4), {"ignore_diagonal": True}, "want two views"),
        ((2, 3, 4), (2, 3, 4), {"student_temperature": -1.0}, "got temperature -1.0"),
    ],
)
def test_impossible_input_is_refused_in_one_line(student, teacher, options, words):
    with pytest.raises(BadInput, match=words):
        dino_loss(scored(torch.zeros(student)), torch.zeros(teacher), **options)


def test_dino_runs_on_the_meta_device():
    student = torch.empty(2, 3, 4, device="meta", requires_grad=True)
    loss = dino_loss(scored(student), torch.empty(2, 3, 4, device="meta"), ignore_diagonal=True)
    loss.backward()
    assert loss.shape == ()
