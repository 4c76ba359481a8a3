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

    segment: what it trains, which lanes of equal content share, from step `root` on; None where no record tells.
    taught_by: the lane whose network it learns from, frozen.
    found: the step up to which it lay in the store when the experiment first began; None where no record tells.
    """

    start: int
    stop: int | None
    parent: str | None
    segment: str | None = None
    root: int | None = None
    taught_by: str | None = None
    found: int | None = None


def parts(asked: Asked) -> dict[tuple[str, int], Part]:
    """By lane and seed, from the names of jobs and of their parents: "plain-s0"."""
    found, roots = {}, dict[str, int]()
    for name, job in asked.get("jobs", {}).items():
        lane, _, seed = name.rpartition("-s")
        parent, segment = job.get("parent"), job.get("segment")
        if lane and seed.isdecimal():
            others = (parent, job.get("taught_by"))
            forks_from, taught_by = ((other or "").rpartition("-s")[0] or None for other in others)
            part = Part(job["start"], job.get("stop"), forks_from, segment, taught_by=taught_by, found=job.get("found"))
            found[lane, int(seed)] = part
        if segment is not None:
            roots[segment] = min(job["start"], roots.get(segment, job["start"]))
    return {lane: part._replace(root=roots.get(part.segment or "")) for lane, part in found.items()}


def own(curve: Curve, part: Part | None) -> Curve:
    """The lane's own part of a curve that may go on for others, or began with its parent; seconds count from there.

    A first or last step that was not logged, since the curve goes on, lies on the line between its neighbours.
    """
    if part is None:
        return curve
    found: dict[str, Line] = {}
    stop = math.inf if part.stop is None else part.stop
    for name, line in curve.items():
        steps, values = _from_root(name, line, part.root)
        if steps[0] < stop < steps[-1] and stop not in steps:
            place = int(np.searchsorted(steps, stop))
            values = np.insert(values, place, np.interp(stop, steps, values))
            steps = np.insert(steps, place, stop)
        mine = (steps > part.start) & (steps <= stop)
        spent = np.interp(part.start, steps, values) if name == "seconds" and steps[0] <= part.start else 0.0
        if mine.any():
            found[name] = Line(steps[mine], values[mine] - spent)
    return found


def _from_root(name: str, line: Line, root: int | None) -> Line:
    """What is counted, with the step at which the counting began: nothing was spent there."""
    if root is None or line.steps[0] <= root:
        return line
    begun = {"step": float(root), "images": line.values[0] * root / line.steps[0], "seconds": 0.0}
    if name not in begun:
        return line
    return Line(np.insert(line.steps, 0, root), np.insert(line.values, 0, begun[name]))


def ended(status: Status, part: Part | None, curve: Curve | None) -> Status:
    """The state of a lane as far as its own part goes, which shares its folder with what comes before and after it.

    Seconds and images per second are those of its own steps, by their curve.
    """
    if part is None or status.step is None:
        return status
    if part.stop is not None and status.step >= part.stop:
        status = replace(status, state="done", step=part.stop, steps=part.stop, error=None)
    seconds, images = (curve or {}).get("seconds"), (curve or {}).get("images")
    if seconds is None:
        return replace(status, seconds=None, images_per_second=None)
    spent = float(seconds.values[-1])
    share = 1 - part.start / float(seconds.steps[-1])  # of all steps so far
    speed = float(images.values[-1]) * share / spent if images is not None and spent > 0 else None
    return replace(status, seconds=spent, images_per_second=speed)
