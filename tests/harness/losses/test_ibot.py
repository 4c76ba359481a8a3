"""The iBOT loss against plain loops and what must always hold."""

import math

import pytest
import torch
from torch.testing import assert_close

from common.errors import BadInput
from harness.losses.cross_entropy import Scores
from harness.losses.ibot import ibot_loss

MASKS = torch.tensor([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)


def tokens(masks=MASKS, prototypes=5, seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    student, teacher = torch.randn(2, int(masks.sum()), prototypes, dtype=dtype, generator=draw)
    return student, teacher.softmax(-1)


def scored(logits):
    """Scores whose logits are these."""
    return Scores(logits, torch.eye(logits.shape[-1], dtype=logits.dtype, device=logits.device))


def in_plain_loops(student, teacher, masks, temperature, per):
    pairs = iter(zip(student.tolist(), teacher.tolist(), strict=True))
    total = 0.0
    for row in masks.tolist():
        for _ in range(sum(row)):
            logits, probs = next(pairs)
            top = max(logits)
            norm = math.log(sum(math.exp((x - top) / temperature) for x in logits)) + top / temperature
            total -= sum(p * (x / temperature - norm) for p, x in zip(probs, logits, strict=True)) / sum(row)
    crops = len(masks) if per == "crop" else max(1, sum(any(row) for row in masks.tolist()))
    return torch.tensor(total / crops, dtype=torch.float64)


@pytest.mark.parametrize("masks", [MASKS, MASKS[:1], ~MASKS[1:2], MASKS.T, MASKS[1:2]])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("per", ["crop", "masked_crop"])
def test_ibot_equals_plain_loops(masks, temperature, per):
    student, teacher = tokens(masks)
    want = in_plain_loops(student, teacher, masks, temperature, per)
    assert_close(ibot_loss(scored(student), teacher, masks, temperature, per), want)
    got = ibot_loss(scored(student.float()), teacher.float(), masks, temperature, per)
    assert_close(got, want.float(), atol=1e-5, rtol=1e-5)


def test_with_half_of_the_crops_masked_the_default_is_half_the_mean_over_masked_crops():
    masks = torch.tensor([[1, 0], [0, 0], [1, 1], [0, 0]], dtype=torch.bool)
    student, teacher = tokens(masks)
    assert_close(
        ibot_loss(scored(student), teacher, masks), ibot_loss(scored(student), teacher, masks, per="masked_crop") / 2
    )


def test_a_crop_weighs_the_same_however_many_patches_it_masks():
    student, teacher = tokens()
    crops = ((MASKS[[0]], slice(0, 3)), (MASKS[[2]], slice(3, 4)), (MASKS[[3]], slice(4, 8)))
    alone = [ibot_loss(scored(student[own]), teacher[own], mask) for mask, own in crops]
    assert_close(ibot_loss(scored(student), teacher, MASKS), torch.stack(alone).sum() / 4)


def test_only_the_number_of_masked_patches_matters_not_their_place():
    student, teacher = tokens()
    assert_close(ibot_loss(scored(student), teacher, MASKS.flip(1)), ibot_loss(scored(student), teacher, MASKS))


@pytest.mark.parametrize("per", ["crop", "masked_crop"])
def test_no_mask_gives_zero_with_a_graph(per):
    student = torch.empty(0, 5, requires_grad=True)
    loss = ibot_loss(scored(student), torch.empty(0, 5), torch.zeros(4, 6, dtype=torch.bool), per=per)
    loss.backward()
    assert loss == 0
    assert student.grad is not None


@pytest.mark.parametrize("per", ["crop", "masked_crop"])
def test_ibot_gradients_are_right_and_none_reaches_the_teacher(per):
    student, teacher = (x.requires_grad_() for x in tokens())
    ibot_loss(scored(student), teacher, MASKS, 0.5, per).backward()
    assert teacher.grad is None
    entropies = -(teacher.detach() * (student / 0.5).log_softmax(-1)).sum(-1)
    by_crop = [own.mean() for own in entropies.split(MASKS.sum(1).tolist()) if len(own)]
    want = torch.stack(by_crop).sum() / (4 if per == "crop" else 3)
    assert_close(student.grad, torch.autograd.grad(want, student)[0])


def test_huge_logits_stay_finite_with_finite_gradients():
    student, teacher = tokens(dtype=torch.float32)
    student = (1e4 * student).requires_grad_()
    loss = ibot_loss(scored(student), teacher, MASKS)
    loss.backward()
    assert loss.isfinite()
    assert student.grad is not None
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_worked_in_float32_whatever_the_autocast(dtype):
    student, teacher = tokens(dtype=torch.float32)
    student = student.to(dtype)
    want = ibot_loss(scored(student.float()), teacher, MASKS)
    with torch.autocast("cpu", torch.bfloat16):
        got = ibot_loss(scored(student), teacher, MASKS)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("student", "teacher", "masks", "options", "words"),
    [
        ((8, 5), (8, 6), MASKS, {}, r"got student \[8, 5\], teacher \[8, 6\].*want \[M, K\] twice"),
        ((7, 5), (7, 5), MASKS, {}, "want 8 patches, one per True"),
        ((9, 5), (9, 5), MASKS, {}, "want 8 patches, one per True"),
        ((8, 5), (8, 5), MASKS.int(), {}, r"torch.int32: want masks \[C, P\] of bool"),
        ((8, 5), (8, 5), MASKS.flatten(), {}, r"want masks \[C, P\]"),
        ((8, 5), (8, 5), MASKS, {"per": "batch"}, "got per='batch': want 'crop' or 'masked_crop'"),
        ((8, 5), (8, 5), MASKS, {"student_temperature": 0.0}, "got temperature 0.0"),
    ],
)
def test_impossible_input_is_refused_in_one_line(student, teacher, masks, options, words):
    with pytest.raises(BadInput, match=words):
        ibot_loss(scored(torch.zeros(student)), torch.zeros(teacher), masks, **options)


@pytest.mark.parametrize("per", ["crop", "masked_crop"])
def test_ibot_runs_on_the_meta_device(per):
    student = torch.empty(8, 5, device="meta", requires_grad=True)
    loss = ibot_loss(scored(student), torch.empty(8, 5, device="meta"), MASKS.to("meta"), per=per)
    loss.backward()
    assert loss.shape == ()
