from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evals import heads
from evals.errors import BadInput
from evals.heads import LinearHead


def test_without_a_terminal_lines_of_the_log_tell_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(heads, "SILENCE", 0.0)
    with caplog.at_level("INFO", logger="gramlab"), heads.progress(4, "training") as tick:
        for _ in range(4):
            tick(loss=0.5)
    assert "training: 2 of 4" in caplog.text
    assert "loss" in caplog.text


def test_the_head_starts_small_and_without_a_bias_and_its_start_follows_the_seed():
    head = LinearHead(384, 150, init_std=0.01, seed=3)
    assert head.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not head.bias.any()
    assert torch.equal(head.weight, LinearHead(384, 150, init_std=0.01, seed=3).weight)
    assert not torch.equal(head.weight, LinearHead(384, 150, init_std=0.01, seed=4).weight)


def test_the_head_is_batch_norm_and_a_convolution():
    head = LinearHead(6, 3, init_std=0.5, seed=0)
    patches = torch.randn(4, 6, 5, 2, generator=torch.Generator().manual_seed(0)) * 3 + 1
    theirs = nn.Sequential(nn.BatchNorm2d(6), nn.Conv2d(6, 3, 1))
    theirs[1].load_state_dict({"weight": head.weight, "bias": head.bias})
    torch.testing.assert_close(head(patches), theirs(patches))
    torch.testing.assert_close(head.eval()(patches), theirs.eval()(patches))


def fit(loss: Callable[[int, Tensor], Tensor], start: float = 1.0, **rest: object) -> float:
    weight = nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.SGD([weight], lr=99.0)
    settings = {"steps": 3, "options": lambda step: {"lr": 0.1 * (step + 1)}, "title": "toy"} | rest
    data: Iterator[Tensor] = (torch.tensor(float(step)) for step in range(3))
    heads.fit(optimizer, data, lambda step, x: loss(step, x) * weight, **settings)  # pyright: ignore
    return float(weight.detach())


def test_the_loop_takes_each_rate_in_turn_and_clips_the_gradient():
    assert fit(lambda step, x: x + 1) == pytest.approx(1 - (0.1 * 1 + 0.2 * 2 + 0.3 * 3))
    assert fit(lambda step, x: x + 1, clip=0.5) == pytest.approx(1 - 0.5 * (0.1 + 0.2 + 0.3))


def test_a_loss_that_is_not_finite_stops_and_names_the_iteration():
    seen: list[int] = []
    with pytest.raises(BadInput, match="got loss nan at iteration 1 of toy"):
        fit(lambda step, x: x * (torch.nan if step == 1 else 1), after=seen.append)
    assert seen == [0]


def test_training_ends_with_the_head_that_was_judged_best():
    """The weight climbs by one a step; scores are best at 2, which is seen once and not at the last validation."""
    head = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(head.weight)
    seen: list[float] = []

    def judge() -> dict[str, np.ndarray]:
        seen.append(head.weight.item())
        return {"weight": np.array([head.weight.item()])}

    outcomes = heads.probe(
        SimpleNamespace(iterations=5, validate_every=2, clip=None, weight_decay=0.0),
        head,
        make=lambda step: step,
        loss=lambda step, _: -head.weight.sum(),
        options=lambda step: {"lr": 1.0},
        judge=judge,
        score=lambda found: -abs(float(found["weight"][0]) - 2.2),
        title="toy",
    )
    assert seen == pytest.approx([2, 4, 5])
    assert head.weight.item() == outcomes["weight"][0] == seen[0]
    assert not head.training


@pytest.mark.parametrize("training", [True, False])
def test_a_head_is_judged_in_evaluation_mode_and_left_as_it_was(training: bool):
    head = LinearHead(2, 2, init_std=1, seed=0).train(training)
    with heads.judging(head):
        assert not head.norm.training
    assert head.norm.training == training
    with heads.judging(lambda patches: patches):
        pass


@pytest.mark.parametrize(("every", "steps", "expected"), [(2, 6, [1, 3, 5]), (4, 6, [3, 5]), (9, 6, [5])])
def test_heads_are_judged_at_each_interval_and_once_at_the_end(every: int, steps: int, expected: list[int]):
    """The published code judged after every iteration where the interval does not divide the length."""
    assert [step for step in range(steps) if heads.due(step, every, steps)] == expected
