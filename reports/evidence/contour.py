"""The contour plot of an atlas: a value over two settings, the points that were run with their numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from reports import words
from reports.axes import plain
from reports.estimates import Column
from reports.evidence.asked import title
from reports.evidence.atlas import Point, scale
from reports.page import INK
from reports.run_folder import Run

WIDE, PANEL, SIZE = 8.0, 3.1, 10.0  # inches: of the figure, of a panel's height; of letters, points
ACROSS = 2  # panels side by side
COLOURS = "RdBu"  # blue is good; told apart with the common colour-vision deficiencies
LEVELS = 9
LOG = 4.0  # from this ratio of its ends on a setting is drawn in doublings


def figure(run: Run, panels: Sequence[tuple[Column, Sequence[Point]]], across: str, up: str, *, kind: str) -> Figure:
    """A panel for each column."""
    beside = min(ACROSS, len(panels))
    down = -(-len(panels) // beside)
    drawn = Figure(figsize=(WIDE, down * PANEL), layout="constrained", facecolor="white")
    every = drawn.subplots(down, beside, squeeze=False).ravel()
    for axes, (column, found) in zip(every, panels, strict=False):
        factor, digits, unit = scale(column, kind)
        _panel(axes, found, across, up, factor=factor, digits=digits, good=1 if kind == "gain" else -1)
        axes.set_title(f"{title(run, column)}: {kind}" + (f", {unit}" if unit else ""), fontsize=SIZE, loc="left")
    for axes in every[len(panels) :]:
        axes.set_axis_off()
    return drawn


def _panel(axes: Axes, found: Sequence[Point], across: str, up: str, *, factor: float, digits: int, good: int) -> None:
    places: dict[tuple[float, float], list[float]] = {}
    for point in found:
        places.setdefault((point.settings[across], point.settings[up]), []).append(point.value * factor)
    x, y = np.array([*places], dtype=float).T
    values = np.array([np.mean(own) for own in places.values()])
    most = max(float(np.abs(values).max()), 1e-9)
    look = {"cmap": colormaps[COLOURS], "vmin": -1.3 * most, "vmax": 1.3 * most}
    x, y = _scaled(axes.xaxis, x), _scaled(axes.yaxis, y)
    if len(np.unique(x)) > 1 and len(np.unique(y)) > 1:  # over a line alone there is no plane
        fields = axes.tricontourf(x, y, good * values, LEVELS, **look)
        fields.set_edgecolor("face")
    axes.scatter(x, y, c=good * values, s=26, edgecolor=INK, linewidth=0.8, zorder=3, **look)
    for place in range(len(values)):
        label = words.number(values[place], digits, signed=True)
        near = {"textcoords": "offset points", "xytext": (0, 6), "ha": "center", "fontsize": SIZE - 2, "color": INK}
        axes.annotate(label, (x[place], y[place]), path_effects=[withStroke(linewidth=2.2, foreground="white")], **near)
    axes.use_sticky_edges = False
    axes.margins(0.16, 0.2)
    axes.set_xlabel(across, fontsize=SIZE)
    axes.set_ylabel(up, fontsize=SIZE)
    axes.tick_params(labelsize=SIZE - 1)
    axes.grid(False)


def _scaled(axis: Axis, values: np.ndarray) -> np.ndarray:
    """Where values stand on the axis: in doublings where they span more than a few; ticks at the values themselves."""
    doublings = values.min() > 0 and values.max() / values.min() >= LOG
    placed = np.log2(values) if doublings else values
    names = dict(zip(placed.tolist(), values.tolist(), strict=True))
    axis.set_major_locator(FixedLocator(sorted(names)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda at, _: plain(names.get(at, at))))
    return placed
