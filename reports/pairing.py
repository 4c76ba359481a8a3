"""Differences from what each image contributed: arms and baseline, with the same seeds, on the same images."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from common.disk import matching
from common.errors import BadInput
from common.steps import job_name, step_name
from evals.results.bootstrap import joint_draws
from evals.results.crossed import Crossed, crossed
from evals.results.outcomes import Evaluated, load_outcomes, outcomes_of


class Measured(Evaluated, Protocol):
    """One metric of an evaluation: `reports.estimates.Column` is."""

    @property
    def metric(self) -> str: ...


class Checkpoint(NamedTuple):
    """A lane's network after a step, with one seed: what was evaluated."""

    lane: str
    seed: int
    step: int


Mix = Mapping[Checkpoint, float]  # a value between two evaluations, with their weights, or one of weight 1
Sides = Mapping[int, tuple[Mix, Mix]]  # seed → the arm's value and the baseline's
Arm = TypeVar("Arm", bound=Hashable)  # how the caller tells one comparison from another


class Kept:
    """What images contributed to the evaluations of a run; each file is read once while its evaluation is asked for.

    A segment may hold outcomes of another experiment beside these.

    Args:
        kind: of the folders of evaluated steps, see `KINDS`.
        evaluations: identity of the experiment's evaluations, which names the folder of its outcomes.
    """

    def __init__(self, folder: Path, *, kind: str = "step", evaluations: str = "") -> None:
        self._folder, self._kind, self._evaluations = folder, kind, evaluations
        self._file = ""
        self._read: dict[Checkpoint, dict[str, np.ndarray] | None] = {}

    def outcomes(self, column: Measured, place: Checkpoint) -> dict[str, np.ndarray] | None:
        """Those of a checkpoint; None where none were kept, or a file was half written."""
        if outcomes_of(column) != self._file:
            self._file, self._read = outcomes_of(column), {}
        if place not in self._read:
            self._read[place] = self._load(column, place)
        return self._read[place]

    def _load(self, column: Measured, place: Checkpoint) -> dict[str, np.ndarray] | None:
        step = self._folder / job_name(place.lane, place.seed) / step_name(place.step, self._kind)
        path = outcomes_path(step, column, evaluations=self._evaluations)
        try:
            return load_outcomes(path) if path is not None else None
        except BadInput:
            return None


def paired(kept: Kept, column: Measured, arms: Mapping[Arm, Sides]) -> dict[Arm, Crossed]:
    """Each arm minus the baseline over seeds and images; arms of which an evaluation kept no outcomes are left out."""
    outcomes = {place: kept.outcomes(column, place) for place in sorted(_places(arms.values()))}
    known = {
        arm: sides for arm, sides in arms.items() if all(outcomes[place] is not None for place in _places([sides]))
    }
    used = sorted(_places(known.values()))
    if not used:
        return {}
    try:
        found = joint_draws(column.metric, [one for place in used if (one := outcomes[place]) is not None])
    except (BadInput, KeyError, OSError, ValueError):  # foreign files give no interval, not no report
        return {}
    compared = {}
    for arm, sides in known.items():
        weights = np.array([_weights(used, *pair) for pair in sides.values()]).T
        # Its own checkpoints alone: which others there are depends on a run's times, and would move the last bits
        own = weights.any(axis=1)
        values, draws = found.values[own] @ weights[own], found.draws[:, own] @ weights[own]
        compared[arm] = crossed(values, draws, images=found.images)
    return compared


def _places(many: Iterable[Sides]) -> set[Checkpoint]:
    return {place for sides in many for pair in sides.values() for mix in pair for place in mix}


def _weights(used: Sequence[Checkpoint], mine: Mix, base: Mix) -> list[float]:
    return [mine.get(place, 0.0) - base.get(place, 0.0) for place in used]


def outcomes_path(step: Path, column: Evaluated, *, evaluations: str) -> Path | None:
    """Where `save_outcomes` left an evaluation in a step's folder; None where it did not, or others alone."""
    found = {path.parent.name: path for path in matching(step, f"**/{outcomes_of(column)}")}
    return found.get(evaluations, found.get("outcomes"))
