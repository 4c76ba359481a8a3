from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common import progress
from common.errors import BadInput
from evals.fitting import training
from evals.protocols.reading import load
from evals.tasks.segmentation.published import PublishedSegmentation


def fit(loss: Callable[[int, Tensor], Tensor], start: float = 1.0, **rest: object) -> float:
    weight = nn.Parameter(torch.tensor(start))
    optimizer = torch.optim.SGD([weight], lr=99.0)
    settings = {"steps": 3, "options": lambda step: {"lr": 0.1 * (step + 1)}, "title": "toy"} | rest
    data: Iterator[Tensor] = (torch.tensor(float(step)) for step in range(3))
    training.fit(optimizer, data, lambda step, x: loss(step, x) * weight, **settings)  # pyright: ignore
    return float(weight.detach())


def test_the_loop_takes_each_rate_in_turn_and_clips_the_gradient():
    assert fit(lambda step, x: x + 1) == pytest.approx(1 - (0.1 * 1 + 0.2 * 2 + 0.3 * 3))
    assert fit(lambda step, x: x + 1, clip=0.5) == pytest.approx(1 - 0.5 * (0.1 + 0.2 + 0.3))


def test_the_log_tells_loss_and_rate_and_what_validations_found(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    caplog.set_level("INFO", "gramlab")
    fit(lambda step, x: x + 1.23456, after=lambda step: {"best": 2 / 3} if step == 0 else None)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("toy: 1 of 3, ")
    assert lines[0].endswith(", loss=1.23, lr=0.1, best=0.667")
    assert lines[1].endswith(", lr=0.2, best=0.667")


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

    outcomes = training.probe(
        load(
            "segmentation-standard", PublishedSegmentation, iterations=5, validate_every=2, clip=None, weight_decay=0.0
        ),
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


@pytest.mark.parametrize(("every", "steps", "expected"), [(2, 6, [1, 3, 5]), (4, 6, [3, 5]), (9, 6, [5])])
def test_heads_are_judged_at_each_interval_and_once_at_the_end(every: int, steps: int, expected: list[int]):
    """The published code judged after every iteration where the interval does not divide the length."""
    assert [step for step in range(steps) if training.due(step, every, steps)] == expected
