"""The way of an arm from step 0: the stretches of training that lead to it, what they cost, and their evaluations."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np

from evals.results.table import Row
from reports.parts import Line
from reports.run_folder import Run

Measure = Literal["steps", "images", "flops", "seconds"]


class Stretch(NamedTuple):
    """The steps after `start` up to `stop`, which a lane trained."""

    lane: str
    start: float
    stop: float


def stretches(run: Run, lane: str, seed: int) -> list[Stretch]:
    """The stretches of the way, the first one first; ancestors end where the next one forks from them."""
    found: list[Stretch] = []
    stop, here = math.inf, lane
    while here is not None and here not in {stretch.lane for stretch in found}:  # a record by hand may hold a circle
        part = run.part(here, seed)
        own = math.inf if part.stop is None else part.stop
        found.append(Stretch(here, part.start, min(stop, own)))
        stop, here = min(stop, part.start), part.parent
    return found[::-1]


def on_way(run: Run, rows: Iterable[Row], lane: str, seed: int) -> list[Row]:
    """Those of the rows that were measured on the way, by step; the lane's own come before its parent's."""
    way = {stretch.lane: stretch for stretch in stretches(run, lane, seed)}
    found: dict[int, Row] = {}
    for row in rows:
        stretch = way.get(row.arm) if row.seed == seed else None
        if stretch is None or (row.arm != lane and row.step > stretch.stop):
            continue
        if row.step not in found or row.arm == lane:
            found[row.step] = row
    return [found[step] for step in sorted(found)]


def spent(run: Run, lane: str, seed: int, measure: Measure) -> Line | None:
    """What the way has used by a step, from nothing at step 0, straight in between; None where it is unknown."""
    steps, totals = [0.0], [0.0]
    for stretch in (stretch for stretch in stretches(run, lane, seed) if stretch.stop > stretch.start):
        pieces = [*_rates(run, stretch, seed, measure)] if measure != "seconds" else [*_clock(run, stretch, seed)]
        if not pieces:
            return None
        begun = totals[-1]
        for step, more in pieces:
            steps.append(step)
            totals.append(begun + more)
    return Line(np.array(steps), np.array(totals))


def _clock(run: Run, stretch: Stretch, seed: int) -> Iterator[tuple[float, float]]:
    """Steps of a stretch with the seconds of training since its start."""
    line = run.curves.get((stretch.lane, seed), {}).get("seconds")
    if line is not None:
        own = line.steps <= stretch.stop
        yield from zip(line.steps[own].tolist(), line.values[own].tolist(), strict=True)


def _rates(run: Run, stretch: Stretch, seed: int, measure: Measure) -> Iterator[tuple[float, float]]:
    """Steps of a stretch at which what a step uses changes, and its last, with what was used since its start."""
    if measure == "images":
        line = run.curves.get((stretch.lane, seed), {}).get("images")
        rates = [(0.0, float(line.values[-1] / line.steps[-1]))] if line is not None else []
    else:
        rates = [*run.compute.get(stretch.lane, ())]
    evaluated = max((row.step for row in run.rows if row.arm == stretch.lane), default=0)
    last, total = (stretch.stop if math.isfinite(stretch.stop) else evaluated), 0.0
    for (start, rate), (end, _) in pairwise([*rates, (math.inf, 0.0)]):
        first, until = max(start, stretch.start), min(end, last)
        if until > first:
            total += rate * (until - first)
            yield until, total
