from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.errors import BadInput
from evals.judging.image_classes import hits
from evals.tasks.linear import grid as linear_heads
from evals.tasks.linear.grid import GridHead, Heads, Judged, cosine, grid, judge, portions, residuals

STEPS, BATCH, CLASSES = 15, 20, 5


def batches(width: int = 8) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(STEPS, BATCH, width, generator=draw, dtype=torch.float64)
    return x, torch.randint(CLASSES, (STEPS, BATCH), generator=draw)


def alone(head: GridHead, x: Tensor, labels: Tensor, start: Tensor) -> torch.nn.Linear:
    """The slow reference: one head, autograd, torch's optimizer and schedule."""
    layer = torch.nn.Linear(x.shape[-1], CLASSES, dtype=x.dtype)
    with torch.no_grad():
        layer.weight.copy_(start.T)
        layer.bias.zero_()
    optimizer = torch.optim.SGD(layer.parameters(), lr=head.rate, momentum=0.9, weight_decay=head.decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for part, truth in zip(x, labels, strict=True):
        optimizer.zero_grad()
        F.cross_entropy(layer(part), truth).backward()
        optimizer.step()
        schedule.step()
    return layer


def test_every_head_of_a_grid_becomes_what_torchs_sgd_makes_of_it_alone():
    x, labels = batches()
    heads = grid(("cls", "cls_mean"), (0.01, 0.5), (0.0, 0.1))
    inputs = {"cls": x[..., :4], "cls_mean": x}
    start = {name: 0.01 * torch.randn(rows.shape[-1], CLASSES, dtype=x.dtype) for name, rows in inputs.items()}
    fitted = Heads(heads, {k: v[0] for k, v in inputs.items()}, classes=CLASSES, momentum=0.9, start=start)
    for step in range(STEPS):
        fitted.step({name: rows[step] for name, rows in inputs.items()}, labels[step], cosine(step, STEPS))
    logits = fitted.logits({name: rows[0] for name, rows in inputs.items()})
    for index, head in enumerate(heads):
        layer = alone(head, inputs[head.input], labels, start[head.input])
        weight, bias = fitted.parameters(index)
        assert torch.allclose(weight, layer.weight.T, atol=1e-12)
        assert torch.allclose(bias, layer.bias, atol=1e-12)
        assert torch.allclose(logits[:, index], layer(inputs[head.input][0]), atol=1e-12)


def test_heads_of_one_rate_and_unlike_decays_differ():
    x, labels = batches()
    fitted = Heads(grid(("cls",), (0.5,), (0.0, 1e-2)), {"cls": x[0]}, classes=CLASSES, momentum=0.9)
    for step in range(STEPS):
        fitted.step({"cls": x[step]}, labels[step], 1.0)
    assert fitted.parameters(1)[0].norm() < fitted.parameters(0)[0].norm()


def test_a_head_that_diverges_leaves_the_others_as_they_are_and_is_never_the_best():
    x, labels = batches()
    found = []
    for rates in ((0.1,), (0.1, math.inf)):
        heads = [GridHead("cls", rate, 0.0) for rate in rates]  # no grid has such a rate
        fitted = Heads(heads, {"cls": x[0]}, classes=CLASSES, momentum=0.9)
        for step in range(STEPS):
            fitted.step({"cls": x[step]}, labels[step], 1.0)
        found.append(fitted)
    assert torch.allclose(found[0].parameters(0)[0], found[1].parameters(0)[0], atol=1e-12)
    judged = judge(found[1], [({"cls": x[0]}, labels[0])])
    assert not judged.loss[1].isfinite()
    assert judged.best() == 0
    with pytest.raises(BadInput, match="lower the rates"):
        Judged(judged.correct[:, 1:], judged.in_top5[:, 1:], judged.loss[1:]).best()


def test_residuals_are_the_gradient_of_the_cross_entropy():
    logits = 30 * torch.randn(6, 2, CLASSES, dtype=torch.float64)
    labels = torch.arange(6) % CLASSES
    free = logits.clone().requires_grad_()
    F.cross_entropy(free.mT, labels.view(-1, 1).expand(-1, 2), reduction="sum").backward()
    assert torch.allclose(residuals(logits, labels), free.grad, atol=1e-12)  # pyright: ignore


def test_a_grid_holds_every_combination_once_under_names_that_tell_them_apart():
    heads = grid(("cls", "cls_mean"), (1e-5, 1.000001e-5), (0.0, 1e-5))
    assert len(heads) == len({str(head) for head in heads}) == 8
    assert [head.input for head in heads] == ["cls"] * 4 + ["cls_mean"] * 4


def test_the_best_head_has_the_most_right_and_among_equals_the_lowest_loss():
    correct = torch.tensor([[True, True, True, False], [False, True, True, False]])
    judged = Judged(correct, correct, torch.tensor([0.1, 0.5, 0.4, float("nan")]))
    assert judged.best() == 2


def test_heads_are_judged_alike_in_one_block_and_in_many(monkeypatch: pytest.MonkeyPatch):
    x, labels = batches()
    flat, truth = x.flatten(0, 1), labels.flatten()
    fitted = Heads(grid(("cls",), (0.1, 1.0), (0.0,)), {"cls": x[0]}, classes=CLASSES, momentum=0.9)
    fitted.step({"cls": x[0]}, labels[0], 1.0)
    some = np.arange(0, len(flat), 3)
    whole = judge(fitted, portions(fitted, {"cls": flat}, truth, some))
    monkeypatch.setattr(linear_heads, "CELLS", 7 * 2 * CLASSES)
    blocks = judge(fitted, portions(fitted, {"cls": flat}, truth, some))
    assert all(torch.allclose(a.double(), b.double()) for a, b in zip(whole, blocks, strict=True))
    guesses = fitted.logits({"cls": flat[some]}).argmax(2)
    assert torch.equal(whole.correct, guesses == truth[some, None])


def test_five_guesses_are_enough_for_five_classes_but_not_for_seven():
    scores, labels = torch.arange(7.0).repeat(7, 1), torch.arange(7)
    first, five = hits(scores, labels)
    assert first.tolist() == [False] * 6 + [True]
    assert five.tolist() == [False] * 2 + [True] * 5
    assert hits(scores[:, :5], labels.clamp_max(4))[1].all()


def test_a_class_that_was_never_learnt_is_no_guess_even_where_there_are_fewer_than_five():
    scores = torch.tensor([[2.0, -torch.inf, 1.0]]).repeat(3, 1)
    first, five = hits(scores, torch.arange(3))
    assert first.tolist() == [True, False, False]
    assert five.tolist() == [True, False, True]


def test_rates_fall_by_a_cosine_from_the_first_step_to_zero():
    assert [cosine(step, 4) for step in range(5)] == pytest.approx([1, 0.853553, 0.5, 0.146447, 0], abs=1e-6)
