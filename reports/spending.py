"""Each measure over what was spent for it: images, operations or time, as plain numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, get_args

import numpy as np

from reports.estimates import Column, seed_paths, trajectory
from reports.lineage import Measure, spent
from reports.run_folder import Run

UNITS: dict[Measure, Sequence[tuple[float, str]]] = {  # the largest first
    "images": ((1e6, "million images"), (1e3, "thousand images"), (1, "images")),
    "flops": ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP")),
    "seconds": ((3600, "hours of training"), (60, "minutes of training")),
}


class Spending(NamedTuple):
    """A lane's way in one measure: `mean` [n, 3] (low end, value, high end) once `x` [n] was spent, mean over seeds.

    singles: of each seed what it had spent [k], and its values [k].
    """

    x: np.ndarray
    mean: np.ndarray
    singles: list[tuple[np.ndarray, np.ndarray]]


def telling(run: Run) -> list[Measure]:
    """What of images, operations and time is known, and is not the same in each step of every lane, as steps are."""
    found: list[Measure] = []
    for measure in get_args(Measure)[1:]:
        lines = [line for lane in run.arms for seed in run.seeds if (line := spent(run, lane, seed, measure))]
        trained = [(line.steps > 0, line) for line in lines]
        rates = np.concatenate([np.empty(0), *(line.values[own] / line.steps[own] for own, line in trained)])
        if len(rates) and not np.allclose(rates, rates[0], rtol=1e-6):
            found.append(measure)
    return found


def spending(run: Run, column: Column, lane: str, measure: Measure) -> Spending | None:
    """None where the lane was not evaluated, or no record tells what a seed had spent; an arm begins at its fork."""
    path, singles = trajectory(run, column, lane), seed_paths(run, column, lane)
    lines = {seed: spent(run, lane, seed, measure) for seed in singles}
    known = {seed: line for seed, line in lines.items() if line is not None and line.steps[-1] >= max(singles[seed])}
    if not path or len(known) < len(singles):
        return None
    steps = [estimate.step for estimate in path]
    return Spending(
        np.mean([np.interp(steps, *line) for line in known.values()], axis=0),
        np.array([[estimate.low, estimate.value, estimate.high] for estimate in path]),
        [(np.interp([*own], *known[seed]), np.array([*own.values()])) for seed, own in singles.items()],
    )


def unit(measure: Measure, most: float) -> tuple[float, str]:
    """In what the axis is counted, where it goes up to `most`."""
    sizes = UNITS[measure]
    return next((one for one in sizes if most >= 2 * one[0]), sizes[-1])
