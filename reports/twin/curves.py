"""The training curves as the twin draws them: every logged series, thinned to what a small file can hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from common.timeline import Curve as Planned
from reports.axes import plain
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


def training(run: Run) -> tuple[list[Panel], dict[str, Sheet]]:
    """The series in the order of the PDF, and the sheets of those that move."""
    names = logged(run)
    found = {name: lines_of(run, name) for name in names}
    lines = sum(len(by_lane) for by_lane in found.values()) * (2 if len(run.seeds) > 1 else 1)
    most = int(np.clip(MOST_POINTS / max(lines, 1), *LINE_POINTS))
    panels, sheets = [], {}
    for number, name in enumerate(names):
        values = np.concatenate([line.values for line in found[name].values()])
        log, title = spans_decades(run, name, values), titles(run).get(name, name)
        still = constant(run, name)
        said = "" if still is None else plain(still)
        limits = _decades(values) if log else calm_limits(values)
        panels.append(Panel(f"curve{number}", title, log, limits, said, planned(run, name)))
        if still is None:
            sheets[f"curve{number}"] = _sheet(run, found[name], title, most=most)
    return panels, sheets


def _decades(values: np.ndarray) -> tuple[float, float]:
    """Limits of a logarithmic axis, with some air."""
    return float(values.min()) / AIR, float(values.max()) * AIR


def _sheet(run: Run, series: dict[tuple[str, int], Line], title: str, *, most: int) -> Sheet:
    """Rows without a seed are the mean of all, smoothed; with one seed, too, where it stands for the bold line."""
    rows: list[list[Any]] = []
    for lane in run.lanes:
        seeds = {seed: line for (arm, seed), line in series.items() if arm == lane}
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
