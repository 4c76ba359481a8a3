"""The training curves as the twin draws them: every logged series, thinned to what a small file can hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from common.timeline import Curve as Planned
from reports.axes import plain
from reports.batches import ASKED, SHARE, realised, series, terms
from reports.losses import (
    at_shared_steps,
    calm_limits,
    constant,
    lines_of,
    logged,
    planned,
    smooth,
    spans_decades,
    thinned,
    titles,
)
from reports.parts import Line
from reports.run_folder import Run
from reports.twin.sheets import Sheet, rounded

MOST_POINTS = 60_000  # of all series together, about 1.5 MB
LINE_POINTS = (30, 400)  # of one line: no fewer, no more
DIGITS = 6
AIR = 1.15  # factor beyond the values on a logarithmic axis


class Panel(NamedTuple):
    """A series of the training curve: its sheet, how it is called, its vertical axis, and what the plan says of it.

    constant: the value that it has in all lanes and steps, for a line of text in place of a figure; "" where it moves.
    """

    sheet: str
    title: str
    log: bool
    limits: tuple[float, float]
    constant: str
    plans: Sequence[Planned]


class Logged(NamedTuple):
    """A series to draw: its title, its lines by lane and seed, and the values that its vertical axis has to show."""

    title: str
    lines: Mapping[tuple[str, int], Line]
    values: np.ndarray
    log: bool = False
    still: float | None = None
    plans: Sequence[Planned] = ()


def training(run: Run) -> tuple[list[Panel], dict[str, Sheet]]:
    """Losses and schedules in the order of the PDF, and the sheets of those that move."""
    found = []
    for name in logged(run):
        lines = lines_of(run, name)
        values = np.concatenate([line.values for line in lines.values()])
        log, title = spans_decades(run, name, values), titles(run).get(name, name)
        found.append(Logged(title, lines, values, log, constant(run, name), planned(run, name)))
    return _panels(run, "curve", found)


def batches(run: Run) -> tuple[list[Panel], dict[str, Sheet]]:
    """Of each component of the data the share of images, asked and given, and its own losses."""
    found, rows = [], series(run)
    pooled = {term: _values(columns[term] for columns in rows.values() if term in columns) for term in terms(run, rows)}
    for name, columns in rows.items():
        given = {lane: realised(line, run.part(*lane).start) for lane, line in columns[SHARE].items()}
        plans = _asked(columns[ASKED])
        found.append(Logged(f"{name}: share of images", given, _values([given, columns[ASKED]]), plans=plans))
        for term in (term for term in pooled if term in columns):
            title = run.losses[term].title if term in run.losses else term
            found.append(Logged(f"{name}: {title}", columns[term], pooled[term]))
    return _panels(run, "batch", found)


def _values(found: Iterable[Mapping[tuple[str, int], Line]]) -> np.ndarray:
    return np.concatenate([line.values for lines in found for line in lines.values()])


def _asked(curves: Mapping[tuple[str, int], Line]) -> list[Planned]:
    """The asked shares as the plan would draw them, once for all lanes that were asked alike."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for (lane, _), line in curves.items():
        changed = np.flatnonzero(np.diff(line.values, prepend=np.nan))
        places = np.unique(np.concatenate([changed, (changed - 1).clip(min=0)]))
        told = (tuple(line.steps[places].tolist()), tuple(line.values[places].tolist()), int(line.steps[-1]))
        alike.setdefault(told, []).append(lane)
    return [
        Planned(tuple(dict.fromkeys(lanes)), int(steps[0]), stop, steps, values)
        for (steps, values, stop), lanes in alike.items()
    ]


def _panels(run: Run, prefix: str, found: Sequence[Logged]) -> tuple[list[Panel], dict[str, Sheet]]:
    lines = sum(len(one.lines) for one in found) * (2 if len(run.seeds) > 1 else 1)
    most = int(np.clip(MOST_POINTS / max(lines, 1), *LINE_POINTS))
    panels, sheets = [], {}
    for number, one in enumerate(found):
        said = "" if one.still is None else plain(one.still)
        limits = _decades(one.values) if one.log else calm_limits(one.values)
        panels.append(Panel(f"{prefix}{number}", one.title, one.log, limits, said, one.plans))
        if one.still is None:
            sheets[f"{prefix}{number}"] = _sheet(run, one.lines, one.title, most=most)
    return panels, sheets


def _decades(values: np.ndarray) -> tuple[float, float]:
    """Limits of a logarithmic axis, with some air."""
    return float(values.min()) / AIR, float(values.max()) * AIR


def _sheet(run: Run, lines: Mapping[tuple[str, int], Line], title: str, *, most: int) -> Sheet:
    """Rows without a seed are the mean of all, smoothed; with one seed, too, where it stands for the bold line."""
    rows: list[list[Any]] = []
    for lane in run.lanes:
        seeds = {seed: line for (arm, seed), line in lines.items() if arm == lane}
        if not seeds:
            continue
        steps, values = at_shared_steps([*seeds.values()])
        if len(steps):
            rows += _rows(lane, None, thinned(Line(steps, smooth(values.mean(axis=0))), most))
        for seed, line in sorted(seeds.items()):
            rows += _rows(lane, seed, thinned(line, most))
    return Sheet({"arm": "arm", "seed": "seed (none: mean of all, smoothed)", "step": "step", "value": title}, rows)


def _rows(lane: str, seed: int | None, line: Line) -> list[list[Any]]:
    values = zip(line.steps.tolist(), rounded(line.values, DIGITS), strict=True)
    return [[lane, seed, step, value] for step, value in values]
