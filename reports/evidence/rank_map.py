"""The map of rank correlations: a panel a kind, a row a label-free measure, a column a labelled metric."""

from __future__ import annotations

import math

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common.drawing import text_width
from reports import words
from reports.estimates import title_of
from reports.page import FAINT, INK
from reports.ranks import KINDS, METRIC, SIGN
from reports.tracks import Frame

WIDE, CELL, TITLE, AIR = 8.0, 0.27, 0.3, 0.1  # inches: the figure, height of a row, that of a panel's title
BESIDE = 6  # metrics up to which all panels stand in one row
SIZE, LETTERS, TURN = 9.0, 8.5, 60  # of titles and of names, points; how far names of columns are turned, degrees
COLOURS = "RdBu"  # red against, blue with; told apart with the common colour-vision deficiencies
DARK = 0.65  # beyond it letters are white
Names = dict[tuple[str, ...], str]


def rank_map(found: Frame) -> Figure:
    """Every correlation in its colour; bold where its interval leaves out 0, a dash where none could be had."""
    kinds = [kind for kind in KINDS if (found["kind"] == kind).any()]
    rows, columns = names(found, SIGN), names(found, METRIC)
    across = len(kinds) if len(columns) <= BESIDE else 1
    down = -(-len(kinds) // across)
    beside, below = (max(text_width(name, LETTERS) for name in side.values()) for side in (rows, columns))
    below = below * math.sin(math.radians(TURN)) + 2 * AIR
    high = (CELL * len(rows) + TITLE) * down + below
    drawn = Figure(figsize=(WIDE, high), facecolor="white")
    edges = {"left": (beside + AIR) / WIDE, "right": 1 - AIR / WIDE, "bottom": below / high, "top": 1 - TITLE / high}
    apart = {"wspace": 0.08, "hspace": TITLE / (CELL * len(rows)), **edges}
    panels = drawn.subplots(down, across, squeeze=False, sharex=True, sharey=True, gridspec_kw=apart)
    for axes, kind in zip(panels.ravel(), kinds, strict=True):
        _panel(axes, found[found["kind"] == kind], rows, columns)
        axes.set_title(kind, fontsize=SIZE, weight="bold", loc="left", pad=5)
    return drawn


def _panel(axes: Axes, found: Frame, rows: Names, columns: Names) -> None:
    axes.set_facecolor("white")
    values = np.full((len(rows), len(columns)), math.nan)
    places = [(y, x) for y in range(len(rows)) for x in range(len(columns))]
    texts: dict[tuple[int, int], tuple[str, str]] = dict.fromkeys(places, (words.NONE, "normal"))
    for one in found.to_dict("records"):
        y = [*rows].index(tuple(one[key] for key in SIGN))
        x = [*columns].index(tuple(one[key] for key in METRIC))
        values[y, x] = one["value"]
        sure = one["low"] > 0 or one["high"] < 0
        text = words.number(one["value"], 2, signed=True).replace("0.", ".").replace("1.00", "1")
        texts[y, x] = (text, "bold" if sure else "normal")
    axes.imshow(values, cmap=colormaps[COLOURS], vmin=-1.15, vmax=1.15, aspect="auto")
    for (y, x), (text, weight) in texts.items():
        colour = FAINT if math.isnan(values[y, x]) else "white" if abs(values[y, x]) > DARK else INK
        axes.text(x, y, text, fontsize=SIZE - 2, weight=weight, color=colour, ha="center", va="center")
    axes.set_xticks(range(len(columns)), [*columns.values()], rotation=TURN, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), [*rows.values()])
    axes.tick_params(labelsize=LETTERS, length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)


def names(found: Frame, by: list[str]) -> Names:
    """Titles of signs, by `SIGN`, or of metrics, by `METRIC`, in their order; with data sets where there are several.

    Keys are the values of those columns.
    """
    keys = [tuple(key) for key in found[by].drop_duplicates().to_numpy()]
    several = len({key[-1] for key in keys}) > 1
    titles = {key: title_of("health" if by == SIGN else key[0], key[-2]) for key in keys}
    return {key: f"{title} ({key[-1]})" if several else title for key, title in titles.items()}
