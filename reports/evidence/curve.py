"""A page's figure of measures over steps: the mean over seeds with its range, single seeds faint, a colour an arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports import words
from reports.axes import fork_line, scaled, step_axis
from reports.estimates import Column, of_column, seed_paths, trajectory
from reports.evidence.asked import Asked, asked, title
from reports.evidence.filled import Filled, file_name
from reports.evidence.stored import Shelf
from reports.page import TRUNK_LOOK, Look, looks
from reports.run_folder import TRUNK

WIDE, PANEL, LEGEND = 8.0, 2.7, 0.26  # inches: of the figure, of a panel's height, of a row of the legend
ACROSS, NAMES = 2, 4  # panels and names of arms side by side
SIZE = 10.0  # of letters, points; the figure is shown 800 pixels wide
BANDS = 3  # more bands than these hide one another


def curve(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT METRIC... [arms: ARM...]`: a panel for each metric."""
    got = asked(shelf, given)
    name = f"{got.tables.name}/{file_name(given[1:])}.png"
    seeds = {row.seed for row in got.run.rows}
    lines = f"lines: mean of {len(seeds)} seeds, thin: single seeds" if len(seeds) > 1 else "one seed"
    said = f"{', '.join(title(got.run, column) for column in got.columns)} over training steps; {lines}"
    return Filled(f"![{said}]({name})", {name: figure(got)})


def figure(got: Asked) -> Figure:
    """The panels, side by side and below one another, under a legend."""
    arm_looks = looks(got.run.arms, got.run.baseline) | {TRUNK: TRUNK_LOOK}
    known = {row.arm for row in got.run.rows}
    lanes = [lane for lane in got.run.lanes if lane in known and (lane in got.arms or lane == TRUNK)]
    across = min(ACROSS, len(got.columns))
    down, names = -(-len(got.columns) // across), -(-len(lanes) // NAMES)
    high = down * PANEL + names * LEGEND + 0.15
    drawn = Figure(figsize=(WIDE, high), layout="constrained", facecolor="white")
    panels = drawn.subplots(down, across, squeeze=False).ravel()
    for axes, column in zip(panels, got.columns, strict=False):
        _panel(axes, got, column, lanes, arm_looks)
    for axes in panels[len(got.columns) :]:
        axes.set_axis_off()
    handles = [_sample(arm_looks[lane]) for lane in lanes]
    drawn.legend(handles, lanes, loc="outside upper left", ncols=NAMES, frameon=False, fontsize=SIZE)
    return drawn


def _panel(axes: Axes, got: Asked, column: Column, lanes: Sequence[str], arm_looks: Mapping[str, Look]) -> None:
    last = max((row.step for row in of_column(got.run, column)), default=1)
    first = max(0, 3 * min(got.run.forks, default=0) - 2 * last)  # a third of the width at least is the arms'
    for lane in lanes:
        band = len(got.arms) <= BANDS and lane != TRUNK
        _lane(axes, got, column, lane, look=arm_looks[lane], band=band, first=first)
    step_axis(axes, first, last, label=False)
    axes.set_xlabel("step", fontsize=SIZE)
    scaled(axes.yaxis)
    for step in got.run.forks:
        fork_line(axes, step)
    unit = f" ({words.unit(column)})" if words.unit(column) else ""
    axes.set_title(f"{title(got.run, column)}{unit}, {words.hint(column)}", fontsize=SIZE, loc="left")
    axes.tick_params(labelsize=SIZE - 1)


def _lane(axes: Axes, got: Asked, column: Column, lane: str, *, look: Look, band: bool, first: int) -> None:
    factor, found = words.scale(column), seed_paths(got.run, column, lane)
    singles = {seed: {step: value for step, value in way.items() if step >= first} for seed, way in found.items()}
    path = [estimate for estimate in trajectory(got.run, column, lane) if estimate.step >= first]
    if not path:
        return
    for single in singles.values() if len(singles) > 1 else ():
        axes.plot([*single], np.array([*single.values()]) * factor, color=look.colour, linewidth=0.6, alpha=0.35)
    steps = [estimate.step for estimate in path]
    if band and len(singles) > 1:
        all_seeds = np.array([[single[step] for step in steps] for single in singles.values()])
        low, high = all_seeds.min(axis=0), all_seeds.max(axis=0)
        axes.fill_between(steps, low * factor, high * factor, color=look.colour, alpha=0.12, linewidth=0, zorder=1)
    means = [estimate.value * factor for estimate in path]
    how = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "markersize": 3.5}
    axes.plot(steps, means, linewidth=1.6, zorder=4, **how)


def _sample(look: Look) -> Line2D:
    how = {"color": look.colour, "linestyle": look.dash, "marker": look.marker, "markersize": 4}
    return Line2D([], [], linewidth=1.6, **how)
