"""Differences paired by image: two arms, one seed, the per-image outcomes of the same images."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from common.errors import BadInput
from common.steps import step_name
from evals.results.bootstrap import paired_difference
from evals.results.outcomes import load_outcomes, outcomes_name


class Measured(Protocol):
    """What names an evaluation's outcomes: `reports.tables.Column` does."""

    @property
    def eval(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def metric(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def protocol_hash(self) -> str: ...
    @property
    def size(self) -> int: ...


def paired_images(
    folder: Path, column: Measured, *, step: int, seed: int, arm: str, baseline: str
) -> tuple[float, float] | None:
    """Ends of the 95 % interval of arm minus baseline over images; None where a run kept no outcomes."""
    names = [outcomes_path(folder / f"{lane}-s{seed}", column, step=step) for lane in (baseline, arm)]
    if None in names:
        return None
    try:
        first, second = (load_outcomes(path) for path in names if path is not None)
        found = paired_difference(column.metric, first, second)
    except (BadInput, KeyError, OSError, ValueError):  # a half-written or foreign file gives no interval, not no report
        return None
    return (found.low, found.high) if np.isfinite([found.low, found.high]).all() else None


def outcomes_path(lane: Path, column: Measured, *, step: int) -> Path | None:
    """Where `save_outcomes` left an evaluation of a step: in the step's folder or one below it."""
    name = outcomes_name(column.eval, column.dataset, column.split, column.protocol, column.protocol_hash, column.size)
    return next(iter(sorted((lane / step_name(step)).rglob(name))), None)
