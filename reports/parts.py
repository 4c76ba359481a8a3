"""The parts of training that belong to each arm: where it forked, and which of a shared curve is its own."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from common.records import Asked, Status


class Line(NamedTuple):
    """A logged series without gaps: steps [n] and values [n]."""

    steps: np.ndarray
    values: np.ndarray


Curve = Mapping[str, Line]


class Part(NamedTuple):
    """Which steps are a lane's own with a seed, those after `start` up to `stop`, and the lane that it forks from.

    segment: what it trains, which lanes of equal content share; None where no record tells.
    """

    start: int
    stop: int | None
    parent: str | None
    segment: str | None = None


def parts(asked: Asked) -> dict[tuple[str, int], Part]:
    """By lane and seed, from the names of jobs and of their parents: "plain-s0"."""
    found = {}
    for name, job in asked.get("jobs", {}).items():
        lane, _, seed = name.rpartition("-s")
        parent = job.get("parent")
        if lane and seed.isdecimal():
            forks_from = parent and parent.rpartition("-s")[0]
            found[lane, int(seed)] = Part(job["start"], job.get("stop"), forks_from, job.get("segment"))
    return found


def own(curve: Curve, part: Part | None) -> Curve:
    """The lane's own part of a curve that may go on for others, or began with its parent; seconds count from there.

    Where it goes on, and the part's last step was not logged, that step lies on the line between those beside it.
    """
    if part is None:
        return curve
    found: dict[str, Line] = {}
    stop = math.inf if part.stop is None else part.stop
    for name, (steps, values) in curve.items():
        if steps[0] < stop < steps[-1] and stop not in steps:
            place = int(np.searchsorted(steps, stop))
            values = np.insert(values, place, np.interp(stop, steps, values))
            steps = np.insert(steps, place, stop)
        mine = (steps > part.start) & (steps <= stop)
        spent = values[steps <= part.start].max(initial=0.0) if name == "seconds" else 0.0
        if mine.any():
            found[name] = Line(steps[mine], values[mine] - spent)
    return found


def ended(status: Status, part: Part | None, curve: Curve | None) -> Status:
    """The state of a lane whose part ends before what its folder trains does."""
    if part is None or part.stop is None or status.step is None or status.step < part.stop:
        return status
    seconds = float(curve["seconds"].values[-1]) if curve and "seconds" in curve else None
    return replace(status, state="done", step=part.stop, steps=part.stop, seconds=seconds, error=None)
