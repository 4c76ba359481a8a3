"""What was measured as the twin's figures read it: a row for each arm and evaluated step, a field for each measure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from reports import words
from reports.curves import chance_of, within_reach
from reports.estimates import Column, Estimate, columns, of_column, seed_paths, trajectory
from reports.lineage import Measure, spent
from reports.parts import Line
from reports.run_folder import Run
from reports.twin.sheets import Sheet

HOUR = 3600.0
EFFORT = {"step": "step", "images": "images seen", "flops": "FLOPs", "hours": "hours of training"}
SAID = "_said"  # behind a field's name: the column that has it in words
EVENTS = {"gram_start": "Gram loss starts", "gram_update": "Gram teacher renewed"}


class Field(NamedTuple):
    """What an axis can show: its name in sheets, how it is said and drawn, and which side of it is better.

    side: 1 where more is better, -1 where less is, 0 where neither. reach: how far intervals are drawn.
    """

    name: str
    title: str
    side: int
    reach: tuple[float, float] | None = None
    chance: float | None = None
    column: Column | None = None


def fields(run: Run) -> list[Field]:
    """Every measure of the run in reading order, then what training used."""
    found = columns(run)
    titles = Counter(_title(column) for column in found)
    said = [_title(one) + (f", {one.version} #{one.protocol_hash[:6]}" if titles[_title(one)] > 1 else "")
            for one in found]  # fmt: skip
    measured = [
        _field(run, column, number, title) for number, (column, title) in enumerate(zip(found, said, strict=True))
    ]
    return measured + [Field(name, title, 0) for name, title in EFFORT.items()]


def _title(column: Column) -> str:
    unit = words.unit(column)
    return f"{column.title} on {column.dataset}" + (f" ({unit})" if unit else "")


def _field(run: Run, column: Column, number: int, title: str) -> Field:
    rows = of_column(run, column)
    guess = chance_of(run, column, rows)
    return Field(
        f"c{number}",
        title,
        column.direction,
        reach=within_reach(column, rows) if rows else None,
        chance=guess.level if guess is not None and guess.near else None,
        column=column,
    )


_SPENT: dict[str, Measure] = {"images": "images", "flops": "flops", "hours": "seconds"}


class Used:
    """What the lanes of a run had used by a step, from step 0 on."""

    def __init__(self, run: Run) -> None:
        self._lines = {
            (lane, seed, name): spent(run, lane, seed, measure)
            for lane in run.lanes
            for seed in run.seeds
            for name, measure in _SPENT.items()
        }

    def by(self, lane: str, seeds: Iterable[int], step: float) -> list[float]:
        """Images, FLOPs and hours, each the mean over these seeds; NaN where no record of one of them tells."""
        images, flops, seconds = (
            float(np.mean([_at(self._lines[lane, seed, name], step) for seed in seeds])) if seeds else math.nan
            for name in ("images", "flops", "hours")
        )
        return [images, flops, seconds / HOUR]


def _at(line: Line | None, step: float) -> float:
    return float(np.interp(step, *line)) if line is not None and step <= line.steps[-1] else math.nan


def means(run: Run, known: Sequence[Field], used: Used) -> Sheet:
    """Each measure with the ends of its interval, in shown units, at each step that all seeds of a lane have."""
    ways = {lane: {one.name: _by_step(run, one, lane) for one in _measured(known)} for lane in run.lanes}
    rows = []
    for lane, by_field in ways.items():
        for step in sorted({step for way in by_field.values() for step in way}):
            effort = used.by(lane, _seeds_of(run, lane), step)
            row: list[Any] = [lane, step, *effort, *_said_effort(step, *effort)]
            for one in _measured(known):
                assert one.column is not None
                row += in_units(one.column, by_field[one.name].get(step))
            rows.append(row)
    titles = {"arm": "arm", **EFFORT, **{f"{name}{SAID}": f"{title}, as said" for name, title in EFFORT.items()}}
    for one in _measured(known):
        ends = {"": "", "_low": ", low", "_high": ", high", SAID: ", as said"}
        titles |= {f"{one.name}{end}": f"{one.title}{title}" for end, title in ends.items()}
    return Sheet(titles, rows)


def singles(run: Run, known: Sequence[Field], used: Used) -> Sheet:
    """Each measure, in shown units, of each seed; no rows where there is one seed, which the means are."""
    found: dict[tuple[str, int, int], dict[str, float]] = {}
    for one in _measured(known) if len(run.seeds) > 1 else ():
        assert one.column is not None
        for lane in run.lanes:
            for seed, way in seed_paths(run, one.column, lane).items():
                for step, value in way.items():
                    found.setdefault((lane, seed, step), {})[one.name] = value * words.scale(one.column)
    rows = [
        [
            lane,
            seed,
            step,
            *used.by(lane, [seed], step),
            *(found[lane, seed, step].get(one.name) for one in _measured(known)),
        ]
        for lane, seed, step in sorted(found, key=lambda at: (run.lanes.index(at[0]), *at[1:]))
    ]
    return Sheet({"arm": "arm", "seed": "seed", **EFFORT} | {one.name: one.title for one in _measured(known)}, rows)


def happened(run: Run, known: Sequence[Field], used: Used) -> Sheet:
    """Where a Gram loss starts and its teacher is renewed, on the straight line between evaluations."""
    rows = []
    for lane in run.lanes:
        ways = {one.name: _by_step(run, one, lane) for one in _measured(known)}
        for event in run.events.get(lane, ()):
            if event.kind in EVENTS:
                at = [_between(one, ways[one.name], event.step) for one in _measured(known)]
                used_by = used.by(lane, _seeds_of(run, lane), event.step)
                rows.append([lane, event.step, EVENTS[event.kind], *used_by, *at])
    titles = {"arm": "arm", "step": "step", "kind": "what happened", **{name: EFFORT[name] for name in [*EFFORT][1:]}}
    return Sheet(titles | {one.name: one.title for one in _measured(known)}, rows)


def _measured(known: Sequence[Field]) -> list[Field]:
    return [one for one in known if one.column is not None]


def _by_step(run: Run, one: Field, lane: str) -> dict[int, Estimate]:
    assert one.column is not None
    return {estimate.step: estimate for estimate in trajectory(run, one.column, lane)}


def in_units(column: Column, estimate: Estimate | None) -> list[float | str | None]:
    """Value, both ends, and all of them in words, which are rounded here as the PDF does it, not by a browser."""
    if estimate is None:
        return [None, None, None, words.NONE]
    factor, digits = words.scale(column), words.digits(column)
    ends = [end * factor for end in (estimate.low, estimate.high)]
    said = [words.number(end, digits) for end in ends]
    bracket = f" [{', '.join(said)}]" if all(map(math.isfinite, ends)) and ends[0] < ends[1] else ""
    return [estimate.value * factor, *ends, words.value(column, estimate) + bracket]


def _said_effort(step: int, images: float, flops: float, hours: float) -> list[str]:
    counted = words.operations(flops) if math.isfinite(flops) else words.NONE
    return [words.count(step), words.count(images), counted, words.span(hours * HOUR)]


def _between(one: Field, way: Mapping[int, Estimate], step: int) -> float | None:
    assert one.column is not None
    steps = sorted(way)
    if not steps or not steps[0] <= step <= steps[-1]:
        return None
    return float(np.interp(step, steps, [way[at].value for at in steps])) * words.scale(one.column)


def _seeds_of(run: Run, lane: str) -> list[int]:
    """The seeds that the lane was evaluated with."""
    return sorted({row.seed for row in run.rows if row.arm == lane})
