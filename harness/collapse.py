"""Signs of collapse in what a training curve logs, told as soon as they last: all images look alike to the network.

Three ways to see it, each a number that falls to nothing. Class tokens that span one direction: their effective rank,
RankMe (arXiv 2210.02885, §3). Outputs that are uniform, and outputs of which one dimension dominates: the two forms of
DINO (arXiv 2104.14294, §5.3), by the entropy of the targets, which Sinkhorn makes uniform where the teacher tells no
image from another, and by that of the student's mean prediction.

A network that has not learnt yet looks the same, for up to a thousand steps in experiments/recipe/nano.yaml. So a sign
is told where the network was clearly healthy before, or is old enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from common.records import Collapse
from evals.tasks.health.effective_rank import rank_of
from harness.settings import Experiment

LASTING, ROWS = 50, 3  # steps and rows in a row that a sign must last
WELL = 2  # rows beyond the healthy value by which a network has shown that it was healthy
OLD = 2000  # steps after the warm-up from which one that never was healthy is told of too
MOST_IMAGES = 128  # of whose class tokens a rank is taken: the first of a step
LOOK = "look at the images, `koleo` and the rate (docs/training.md)"


class Sign(NamedTuple):
    """A column of `metrics.jsonl`, what of its value falls at collapse, below which value it has collapsed, above which
    it is healthy, and how it is told, with `{}` for the value."""

    column: str
    amount: Callable[[float], float]
    collapsed: float
    healthy: float
    words: str


def signs(settings: Experiment) -> list[Sign]:
    """Those that tell of a student with these settings: none where its class tokens learn nothing themselves.

    The targets of a distillation are a frozen teacher's.
    """
    if settings.dino.weight == 0:
        return []
    most = math.log(settings.dino.head.prototypes)
    rank = Sign("cls_rank", float, 2.0, 4.0, "the class tokens span {:.2f} directions (RankMe; below 2)")
    one = Sign("student_entropy", math.exp, 2.0, 4.0, "the student serves all images with {:.2f} prototypes (below 2)")
    share = "the entropy of the targets is within {:.2%} of ln K (below 1 %): they say nothing of an image"
    uniform = Sign("target_entropy", lambda entropy: 1 - entropy / most, 0.01, 0.4, share)
    return [rank, one, *([uniform] if settings.distillation.teacher is None else [])]


class _Trail:
    """What a sign has shown so far."""

    def __init__(self, sign: Sign) -> None:
        self.sign, self.well, self.told = sign, 0, False
        self.since, self.rows = 0, 0

    def lasts(self, step: int, value: float, *, old: bool) -> bool:
        """Whether the sign has lasted long enough in this row, and had not in the one before."""
        if not value < self.sign.collapsed:
            self.rows = 0
            self.well += value >= self.sign.healthy
            self.told &= not value >= self.sign.healthy
            return False
        self.since = step if self.rows == 0 else self.since
        self.rows += 1
        lasting = self.rows >= ROWS and step - self.since >= LASTING and (old or self.well >= WELL)
        first, self.told = lasting and not self.told, self.told or lasting
        return first


class Watchman:
    """Reads the rows of a curve in their order; `found` is the first sign that lasted.

    origin: the step that the warm-up counts from.
    """

    def __init__(self, settings: Experiment, *, origin: int) -> None:
        self.trails = [*map(_Trail, signs(settings))]
        self.old = origin + settings.optimizer.warmup_steps + OLD
        self.found: Collapse | None = None

    def __call__(self, row: Mapping[str, Any]) -> list[str]:
        """What is to be told after a row, a line each."""
        said = []
        for trail in self.trails:
            sign, step, value = trail.sign, row["step"], row.get(trail.sign.column)
            if value is None or not trail.lasts(step, amount := sign.amount(value), old=step >= self.old):
                continue
            words = sign.words.format(amount)
            said.append(f"step {step}: collapse, by its signs since step {trail.since}: {words}; {LOOK}")
            self.found = self.found or Collapse(step, trail.since, sign.column, float(value), words)
        return said


def token_rank(tokens: Float[Tensor, "V B D"]) -> float:
    """RankMe of class tokens of several views, between 1 and the smaller of their number and D; NaN where not all is
    finite."""
    rows = tokens.flatten(0, 1).double()
    if not bool(rows.isfinite().all()):
        return math.nan
    energy = torch.linalg.svdvals(rows).square() / len(rows)
    return float(rank_of(energy, energy.sum())[0])
