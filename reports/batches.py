"""What each component of the data was asked to give and gave, and its own losses: a row of panels for each of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from common.drawing import shorten
from reports.axes import fork_line, scaled, step_axis
from reports.curves import entries, grid
from reports.losses import calm, lane_lines
from reports.page import SOFT, TOP, TRUNK_LOOK, Look, Page, legend, new_page
from reports.parts import Line
from reports.run_folder import COMPONENTS, TRUNK, Run

DOWN = 4  # components down a page
MOST_TERMS = 4  # across a page, beside the shares
ASKED, SHARE = "asked", "share"

Curves = dict[tuple[str, int], Line]  # by lane and seed


def batch_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """As many pages as there are rows for; none where training did not tell components apart."""
    found = series(run)
    groups = [[*found][start : start + DOWN] for start in range(0, len(found), DOWN)]
    return [
        _page(run, {name: found[name] for name in group}, arm_looks, number=number)
        for number, group in enumerate(groups)
    ]


def series(run: Run) -> dict[str, dict[str, Curves]]:
    """By component, in the order of the curves, and by column: the shares, then the terms of the loss."""
    found: dict[str, dict[str, Curves]] = {}
    for lane, curve in run.curves.items():
        for key, line in curve.items():
            if str(key).startswith(f"{COMPONENTS}/"):
                name, _, column = key.removeprefix(f"{COMPONENTS}/").rpartition("/")
                found.setdefault(name, {}).setdefault(column, {})[lane] = line
    return {name: columns for name, columns in found.items() if SHARE in columns}


def realised(line: Line, start: int) -> Line:
    """The share of all images since step `start`, from the shares since each row before: steps have equal batches."""
    steps = np.diff(line.steps, prepend=start)
    return Line(line.steps, np.cumsum(line.values * steps) / np.cumsum(steps).clip(min=1))


def _page(run: Run, rows: Mapping[str, Mapping[str, Curves]], arm_looks: Mapping[str, Look], *, number: int) -> Page:
    bands = ", bands: from the lowest to the highest seed" if len(run.seeds) > 1 else ""
    caption = (
        "Share of the images: asked (dotted), and given since the lane's first step. Losses are over the component's "
        f"images alone, at one scale down the page; bold: running mean{bands}. KoLeo and batch-level Gram are no such "
        "means."
    )
    title = "Batches: asked and realised shares, losses by component"
    page = new_page(title + (", continued" if number else ""), caption, size=8.5)
    lanes = {lane for columns in rows.values() for lane, _ in columns[SHARE]}
    top = legend(page, TOP + 0.62, entries(run, arm_looks, lanes)) + 0.32
    shown = terms(run, rows)
    panels = iter(grid(page, len(rows) * (1 + len(shown)), top=top, across=1 + len(shown), down=max(DOWN, 2)))
    limits = {term: _values([columns[term] for columns in rows.values() if term in columns]) for term in shown}
    for place, (name, columns) in enumerate(rows.items()):
        foot = place == len(rows) - 1
        _shares(next(panels), run, name, columns, arm_looks=arm_looks, foot=foot)
        for term in shown:
            axes = next(panels)
            _losses(axes, run, columns.get(term, {}), arm_looks=arm_looks, foot=foot)
            calm(axes, limits[term])
            if place == 0:
                axes.set_title(
                    run.losses[term].title if term in run.losses else term, fontsize=8, loc="right", color=SOFT
                )
    return page


def terms(run: Run, rows: Mapping[str, Mapping[str, Curves]]) -> list[str]:
    """The terms that any row has, in the order of the losses."""
    logged = dict.fromkeys(name for columns in rows.values() for name in columns if name not in (ASKED, SHARE))
    return [*(name for name in run.losses if name in logged), *(name for name in logged if name not in run.losses)][
        :MOST_TERMS
    ]


def _values(found: Sequence[Curves]) -> np.ndarray:
    return np.concatenate([line.values for curves in found for line in curves.values()])


def _shares(
    axes: Axes,
    run: Run,
    name: str,
    columns: Mapping[str, Curves],
    *,
    arm_looks: Mapping[str, Look],
    foot: bool,
) -> None:
    for (lane, seed), line in columns[SHARE].items():
        look = arm_looks.get(lane, TRUNK_LOOK)
        asked = columns[ASKED][lane, seed]
        given = realised(line, run.part(lane, seed).start)
        axes.plot(asked.steps, asked.values, color=look.colour, linestyle=(0, (1, 1.5)), linewidth=1.0, zorder=2)
        axes.plot(given.steps, given.values, color=look.colour, linestyle=look.dash, linewidth=1.2, zorder=3)
    _steps(axes, run, foot=foot)
    calm(axes, _values([columns[SHARE], columns[ASKED]]))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_title(shorten(name, 2.0, 9, weight="bold"), fontsize=9, loc="left", weight="bold", pad=5)
    axes.set_title("images", fontsize=7, loc="right", color=SOFT, pad=5)


def _losses(axes: Axes, run: Run, curves: Curves, *, arm_looks: Mapping[str, Look], foot: bool) -> None:
    for lane in run.lanes:
        mine = [line for (arm, _), line in curves.items() if arm == lane]
        if mine:
            faint = min(0.25, 1.5 / len(curves))
            lane_lines(axes, mine, arm_looks.get(lane, TRUNK_LOOK), trunk=lane == TRUNK, faint=faint)
    scaled(axes.yaxis, ticks=4)
    _steps(axes, run, foot=foot)


def _steps(axes: Axes, run: Run, *, foot: bool) -> None:
    last = max(float(curve["step"].values.max()) for curve in run.curves.values())
    step_axis(axes, 0.0, max(last, run.steps or 0), label=foot)
    for step in run.forks:
        fork_line(axes, step)
