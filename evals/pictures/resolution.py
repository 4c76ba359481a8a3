"""Draws each metric over the input size, by which adaptation to high resolution is judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from common.drawing import shorten
from evals.pictures.sheet import BLUE, BODY, LINE, MARGIN, SMALL, SOFT, TITLE, style, write_line
from evals.results.metrics import metric_of, side
from evals.results.table import Measurement

ACROSS, WIDTH, HEIGHT = 3, 2.6, 1.9
_LEFT, _ABOVE, _BELOW = 0.62, 0.5, 0.42  # inches around a panel: its numbers, its name, its sizes

Series = list[Measurement]


def series(found: Sequence[Measurement]) -> list[Series]:
    """Measurements that differ in their input size alone, by size; those of a single size are left out."""
    groups: dict[tuple[str, ...], dict[int, Measurement]] = {}
    for m in found:
        groups.setdefault((m.eval, m.dataset, m.split, m.protocol, m.metric), {})[m.size] = m
    return [[group[size] for size in sorted(group)] for group in groups.values() if len(group) > 1]


def resolution_figure(found: Sequence[Measurement], *, title: str) -> Figure:
    """A panel for each metric that was measured at two sizes at least; the band is its 95 % interval over images."""
    lines = series(found)
    rows = -(-len(lines) // ACROSS)
    head = MARGIN + TITLE * LINE + SMALL * LINE + 0.1
    wide = ACROSS * (_LEFT + WIDTH) + 2 * MARGIN
    high = head + rows * (_ABOVE + HEIGHT + _BELOW) + MARGIN
    with style():
        figure = Figure(figsize=(wide, high))
        room = wide - 2 * MARGIN
        write_line(figure, MARGIN, MARGIN, shorten(title, room, TITLE, weight="bold"), size=TITLE, weight="bold")
        note = "Band: 95 % interval over test images, which says nothing about another training seed."
        write_line(figure, MARGIN, MARGIN + TITLE * LINE + 0.04, note, size=SMALL, colour=SOFT)
        for number, line in enumerate(lines):
            row, column = divmod(number, ACROSS)
            left = MARGIN + column * (_LEFT + WIDTH) + _LEFT
            top = head + row * (_ABOVE + HEIGHT + _BELOW) + _ABOVE
            axes = figure.add_axes((left / wide, 1 - (top + HEIGHT) / high, WIDTH / wide, HEIGHT / high))
            _panel(axes, line)
            _name(figure, line[0], left - _LEFT + 0.1, top)
    return figure


def _panel(axes: Axes, line: Series) -> None:
    factor = 100 if metric_of(line[0].metric).share else 1
    sizes = np.array([m.size for m in line])
    value, low, high = (factor * np.array([getattr(m, key) for m in line]) for key in ("value", "low", "high"))
    axes.fill_between(sizes, low, high, color=BLUE, alpha=0.18, linewidth=0)
    axes.plot(sizes, value, color=BLUE, marker="o", markersize=4, linewidth=1.4)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes.tolist()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda size, _: f"{size:.0f}")
    axes.margins(x=0.08, y=0.15)
    if low.min() >= 0 > axes.get_ylim()[0]:  # what cannot be negative is not drawn as if it could
        axes.set_ylim(bottom=0)
    axes.grid(axis="y", linewidth=0.4, color="#e4e4e4")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("input, px", fontsize=SMALL, labelpad=2)


def _name(figure: Figure, m: Measurement, left: float, top: float) -> None:
    metric = metric_of(m.metric)
    unit = "%" if metric.share else metric.unit
    direction = side(higher=metric.higher_is_better)
    if metric.kind == "health":  # input size moves these by itself
        direction = "no verdict between sizes"
    label = metric.label if metric.label.startswith(m.eval) else f"{m.eval}: {metric.label}"
    heading = f"{label} ({unit})" if unit else label
    room = _LEFT + WIDTH - 0.2
    write_line(figure, left, top - 0.42, shorten(heading, room, BODY, weight="bold"), size=BODY, weight="bold")
    write_line(
        figure, left, top - 0.22, shorten(f"{m.dataset}/{m.split}, {direction}", room, SMALL), size=SMALL, colour=SOFT
    )
