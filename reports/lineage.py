"""The way of an arm from step 0: the legs that lead to it, what they cost, and their evaluations."""

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


class Leg(NamedTuple):
    """A part of the way: the steps after `start` up to `stop`, which a lane trained."""

    lane: str
    start: float
    stop: float


def legs(run: Run, lane: str, seed: int) -> list[Leg]:
    """The legs of the way, the first one first; ancestors end where the next one forks from them."""
    found: list[Leg] = []
    stop, here = math.inf, lane
    while here is not None and here not in {leg.lane for leg in found}:  # a record by hand may hold a circle
        part = run.part(here, seed)
        own = math.inf if part.stop is None else part.stop
        found.append(Leg(here, part.start, min(stop, own)))
        stop, here = min(stop, part.start), part.parent
    return found[::-1]


def on_way(run: Run, rows: Iterable[Row], lane: str, seed: int) -> list[Row]:
    """Those of the rows that were measured on the way, by step; the lane's own come before its parent's."""
    way = {leg.lane: leg for leg in legs(run, lane, seed)}
    found: dict[int, Row] = {}
    for row in rows:
        leg = way.get(row.arm) if row.seed == seed else None
        if leg is None or (row.arm != lane and row.step > leg.stop):
            continue
        if row.step not in found or row.arm == lane:
            found[row.step] = row
    return [found[step] for step in sorted(found)]


def spent(run: Run, lane: str, seed: int, measure: Measure) -> Line | None:
    """What the way has used by a step, from nothing at step 0, straight in between; None where it is unknown."""
    return _spent(run, lane, seed, measure)[0]


def unrecorded(run: Run, lane: str, seed: int, measure: Measure) -> str:
    """The lane on the way of which no record tells what it has used up to its last evaluation; "" where all do."""
    line, lost = _spent(run, lane, seed, measure)
    last = max((row.step for row in run.rows if (row.arm, row.seed) == (lane, seed)), default=0)
    return lane if line is not None and line.steps[-1] < last else lost


def _spent(run: Run, lane: str, seed: int, measure: Measure) -> tuple[Line | None, str]:
    """The line, or the first lane for which there is none."""
    steps, totals = [0.0], [0.0]
    way = [leg for leg in legs(run, lane, seed) if leg.stop > leg.start]
    for leg in way:
        pieces = [*_rates(run, leg, seed, measure)] if measure != "seconds" else [*_clock(run, leg, seed)]
        if not pieces or (leg is not way[-1] and pieces[-1][0] < leg.stop):
            return None, leg.lane
        begun = totals[-1]
        for step, more in pieces:
            steps.append(step)
            totals.append(begun + more)
    return Line(np.array(steps), np.array(totals)), ""


def _clock(run: Run, leg: Leg, seed: int) -> Iterator[tuple[float, float]]:
    """Steps of a leg with the seconds of training since its start; its end may lie between logged steps."""
    line = run.curves.get((leg.lane, seed), {}).get("seconds")
    if line is None:
        return
    within = line.steps < leg.stop
    yield from zip(line.steps[within].tolist(), line.values[within].tolist(), strict=True)
    if line.steps[-1] >= leg.stop:
        yield leg.stop, float(np.interp(leg.stop, [leg.start, *line.steps], [0.0, *line.values]))


def _slope(line: Line) -> float:
    """What a step adds: between the ends of a line, or since step 0 where it is one point."""
    if len(line.steps) == 1:
        return float(line.values[0] / line.steps[0])
    return float((line.values[-1] - line.values[0]) / (line.steps[-1] - line.steps[0]))


def _rates(run: Run, leg: Leg, seed: int, measure: Measure) -> Iterator[tuple[float, float]]:
    """Steps of a leg at which what a step uses changes, and its last, with what was used since its start."""
    if measure == "images":
        line = run.curves.get((leg.lane, seed), {}).get("images")
        rates = [(0.0, _slope(line))] if line is not None else []
    else:
        rates = [*run.compute.get(leg.lane, ())]
    last, total = (leg.stop if math.isfinite(leg.stop) else run.evaluated.get(leg.lane, 0)), 0.0
    for (start, rate), (end, _) in pairwise([*rates, (math.inf, 0.0)]):
        first, until = max(start, leg.start), min(end, last)
        if until > first:
            total += rate * (until - first)
            yield until, total
