"""A forest plot: the difference of two checkpoints in each metric, with its interval, against zero."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from common.drawing import shorten
from evals.pictures.sheet import BLUE, BODY, INK, LINE, MARGIN, SMALL, SOFT, TITLE, VERMILION, style, write_line
from evals.results.differences import Difference

WIDTH, NAMES, AXIS, GAP = 10.0, 2.5, 4.1, 0.25  # of the page, of the metrics' names, of the axes, beside the axes
ROW, TICKS, SECTION = 0.24, 0.3, 0.36  # heights of a metric, of an axis with its numbers, of an evaluation's heading
ALIKE = 8.0  # metrics share an axis while none is more than this many times as wide as another
_LOOKS: dict[str, dict[str, Any]] = {
    "better": {"color": BLUE, "marker": "o", "markerfacecolor": BLUE},
    "worse": {"color": VERMILION, "marker": "s", "markerfacecolor": VERMILION},
    "": {"color": SOFT, "marker": "D", "markerfacecolor": "white"},
}
_WORDS = {
    "better": "B is better",
    "worse": "B is worse",
    "": "undecided: the interval holds zero, or rounding may be all",
}


def forest_figure(differences: Sequence[Difference], *, a: str, b: str) -> Figure:
    """A section for each evaluation, a row for each metric; metrics of one unit and like spread share an axis."""
    sections = [(about, _panels(list(rows))) for about, rows in groupby(differences, key=lambda one: one.about)]
    head = MARGIN + TITLE * LINE + 2 * SMALL * LINE + 0.1
    lengths = [SECTION + sum(TICKS + ROW * len(panel) for panel in panels) for _, panels in sections]
    with style():
        figure = Figure(figsize=(WIDTH, head + sum(lengths) + 0.35 + MARGIN))
        write_line(
            figure,
            MARGIN,
            MARGIN,
            "Differences B − A on the same images, with 95 % intervals over images",
            size=TITLE,
            weight="bold",
        )
        for number, (name, address) in enumerate((("A", a), ("B", b))):
            text = shorten(f"{name}  {address}", WIDTH - 2 * MARGIN, SMALL)
            top = MARGIN + (TITLE + number * SMALL) * LINE + 0.04
            write_line(figure, MARGIN, top, text, size=SMALL, colour=SOFT)
        top = head
        for (about, panels), length in zip(sections, lengths, strict=True):
            inside = top + SECTION
            text = shorten(f"{about}, {panels[0][0].images} images", WIDTH - 2 * MARGIN, BODY, weight="bold")
            write_line(figure, MARGIN, inside - BODY * LINE - 0.04, text, size=BODY, weight="bold")
            for panel in panels:
                _panel(figure, panel, inside)
                inside += TICKS + ROW * len(panel)
            top += length
        _legend(figure)
    return figure


def _panels(rows: Sequence[Difference]) -> list[list[Difference]]:
    panels: list[list[Difference]] = []
    for one in rows:
        for panel in panels:
            spreads = [x for x in (*map(_spread, panel), _spread(one)) if x > 0]
            alike = not spreads or max(spreads) <= ALIKE * min(spreads)
            if alike and panel[0].unit == one.unit:
                panel.append(one)
                break
        else:
            panels.append([one])
    return panels


def _spread(one: Difference) -> float:
    """The farthest from zero that anything of this row is drawn."""
    return max(abs(x) if math.isfinite(x) else 0.0 for x in (one.difference, one.low, one.high))


def _panel(figure: Figure, panel: Sequence[Difference], top: float) -> None:
    wide, high = figure.get_size_inches()
    height, left = ROW * len(panel), MARGIN + NAMES + GAP
    axes = figure.add_axes((left / wide, 1 - (top + height) / high, AXIS / wide, height / high))
    axes.set_ylim(len(panel) - 0.5, -0.5)
    axes.axvline(0, color=INK, linewidth=0.8, zorder=1)
    for place, one in enumerate(panel):
        _row(axes, place, one)
        middle = top + (place + 0.5) * ROW - SMALL * 0.6 / 72
        write_line(figure, MARGIN, middle, shorten(one.named.label, NAMES, SMALL), size=SMALL)
        numbers, colour = _numbers(one), _LOOKS[one.judgement]["color"]
        write_line(figure, left + AXIS + GAP, middle, numbers, size=SMALL, colour=colour)
    factor = panel[0].factor
    ends = [0.0, *(factor * x for one in panel for x in (one.difference, one.low, one.high) if math.isfinite(x))]
    room = 0.06 * (max(ends) - min(ends)) or 1.0
    axes.set_xlim(min(ends) - room, max(ends) + room)
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda x, _: _minus(f"{x:g}"))
    axes.tick_params(axis="x", length=2.5, pad=1.5)
    axes.set_yticks([])
    axes.grid(axis="x", color="#ececec", linewidth=0.6, zorder=0)
    axes.spines[["left", "right", "top"]].set_visible(False)


def _row(axes: Axes, place: int, one: Difference) -> None:
    look, factor = _LOOKS[one.judgement], one.factor
    axes.plot([factor * one.low, factor * one.high], [place, place], color=look["color"], linewidth=1.8, zorder=2)
    axes.plot([factor * one.difference], [place], **look, markersize=5.5, markeredgewidth=1.3, zorder=3)


def _numbers(one: Difference) -> str:
    value, low, high = (one.write(x, "+") for x in (one.difference, one.low, one.high))
    unit = {"%": " points", "": ""}.get(one.unit, f" {one.unit}")
    return _minus(f"{value}{unit}  ({low} to {high})")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def _legend(figure: Figure) -> None:
    wide, high = figure.get_size_inches()
    keys = [Line2D([], [], **look, linewidth=1.8, markersize=5.5, label=_WORDS[name]) for name, look in _LOOKS.items()]
    figure.legend(
        handles=keys, loc="lower left", bbox_to_anchor=(MARGIN / wide, MARGIN / high), ncols=3, fontsize=SMALL,
        frameon=False, borderpad=0, borderaxespad=0, columnspacing=2.0,
    )  # fmt: skip
