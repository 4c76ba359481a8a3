"""The arms' paths through the plane of two measures, a point per evaluated step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from reports import words
from reports.estimates import Column, seed_paths, trajectory
from reports.page import TRUNK_LOOK, Look
from reports.run_folder import Run


@dataclass(frozen=True)
class Path:
    """An arm's way through the plane: points [n, 2] in shown units, their steps and the intervals of both measures."""

    lane: str
    look: Look
    points: np.ndarray
    steps: np.ndarray
    spans: np.ndarray  # [n, 2, 2]: (low, high) of x, of y; NaN where unknown
    seeds: list[np.ndarray]

    @property
    def cross(self) -> np.ndarray:
        """The intervals [2, 2] at the last point."""
        return self.spans[-1]

    def at(self, step: float) -> tuple[float, float] | None:
        """The place on the path at a step, between evaluated steps by a straight line; None outside the path."""
        if not len(self.steps) or not self.steps[0] <= step <= self.steps[-1]:
            return None
        return float(np.interp(step, self.steps, self.points[:, 0])), float(
            np.interp(step, self.steps, self.points[:, 1])
        )


def paths(run: Run, across: Column, up: Column, *, arm_looks: Mapping[str, Look]) -> list[Path]:
    """A path for each lane that has steps with both measures."""
    found = [_path(run, across, up, lane=lane, look=arm_looks.get(lane, TRUNK_LOOK)) for lane in run.lanes]
    return [path for path in found if len(path.steps)]


def best_of(paths: Sequence[Path], across: Column, up: Column) -> np.ndarray:
    """The Pareto front [k, 2] of all points, from the left: those to which no other one is equal or better in both."""
    signs = np.where([column.kind.higher_is_better for column in (across, up)], 1.0, -1.0)
    points = np.unique(np.concatenate([np.empty((0, 2)), *(path.points for path in paths)]) * signs, axis=0)
    if not len(points):
        return points
    highest = np.maximum.accumulate(points[::-1, 1])[::-1]  # of y, of all that are no worse in x
    last_of_x = np.append(points[1:, 0] > points[:-1, 0], True)
    beyond = np.append(highest[1:], -np.inf)
    found = points[last_of_x & (points[:, 1] > beyond)] * signs
    return found[np.argsort(found[:, 0])]


def extent(paths: Sequence[Path]) -> np.ndarray:
    """The lowest and the highest corner [2, 2] of all points."""
    points = np.concatenate([path.points for path in paths])
    return np.stack([points.min(axis=0), points.max(axis=0)])


def _path(run: Run, across: Column, up: Column, *, lane: str, look: Look) -> Path:
    xs = {estimate.step: estimate for estimate in trajectory(run, across, lane)}
    ys = {estimate.step: estimate for estimate in trajectory(run, up, lane)}
    steps = sorted(xs.keys() & ys.keys())
    factors = np.array([words.scale(across), words.scale(up)])
    points = np.array([[xs[step].value, ys[step].value] for step in steps]).reshape(-1, 2) * factors
    known = [[[side[step].low, side[step].high] for side in (xs, ys)] for step in steps]
    spans = np.array(known).reshape(-1, 2, 2) * factors[:, None]
    return Path(lane, look, points, np.array(steps), spans, _single_seeds(run, across, up, lane=lane, factors=factors))


def _single_seeds(run: Run, across: Column, up: Column, *, lane: str, factors: np.ndarray) -> list[np.ndarray]:
    if len(run.seeds) < 2:
        return []
    xs, ys = seed_paths(run, across, lane), seed_paths(run, up, lane)
    seeds = sorted(xs.keys() & ys.keys())
    points = [
        [[xs[seed][step], ys[seed][step]] for step in sorted(xs[seed].keys() & ys[seed].keys())] for seed in seeds
    ]
    return [np.array(path).reshape(-1, 2) * factors for path in points]
