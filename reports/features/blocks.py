"""Panels of pictures on a page: a block for each image, its left column what all share, then a column for each arm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from common.drawing import shorten
from reports.features.maps import Picture
from reports.page import BOTTOM, FAINT, HAIR, HEIGHT, INK, LEFT, RIGHT, SOFT, WIDTH, Look, Page

GAP, LABEL, CAPTION, NAMES = 0.06, 0.17, 0.21, 0.2  # inches: between panels, for turned words, for lines above
FOOT = 0.3  # for what explains colours
BETWEEN = 0.3  # blocks beside one another
SMALLEST = 1.0  # inches of a panel's height, where fewer blocks would be larger
FINE = 200  # pixels a side that pictures are drawn with at least, so that no viewer smooths their cells
CANVAS = "pictures"
TALLEST = 1.5  # height of a panel by its width


class Panel(NamedTuple):
    """A picture, uint8 [h w 3], or why there is none; and words in its corner."""

    rgb: np.ndarray | None
    corner: str = ""
    marks: tuple[tuple[float, float, str], ...] = ()


def panel(picture: Picture | None, corner: str = "", *, marks: tuple[tuple[float, float, str], ...] = ()) -> Panel:
    """A picture as a panel; a frame where there is none."""
    return Panel(None) if picture is None else Panel(picture.rgb, corner, marks)


class Block(NamedTuple):
    """An image: a caption, panels that all arms share with words beside each, and rows of panels by arm."""

    caption: str
    shared: Sequence[tuple[str, Panel]]
    rows: Sequence[tuple[str, Mapping[str, Panel]]]


class Grid(NamedTuple):
    """How blocks lie on a page: so many beside and below one another, and the panels' width and height in inches."""

    across: int
    down: int
    width: float
    height: float


def grid(count: int, *, arms: int, rows: int, aspect: float, top: float) -> Grid:
    """The grid for so many blocks whose panels are largest."""
    tried = []
    for across in (1, 2):
        down = -(-count // across)
        wide = (RIGHT - LEFT - BETWEEN * (across - 1)) / across
        width = (wide - 2 * LABEL - GAP * arms) / (arms + 1)
        high = (BOTTOM - FOOT - top - NAMES) / down
        height = (high - CAPTION - GAP * rows) / rows
        width = min(width, height / aspect)
        tried.append(Grid(across, down, width, width * aspect))
    return max(tried, key=lambda one: one.width)


def draw(page: Page, blocks: Sequence[Block], arms: Mapping[str, Look], *, aspect: float, top: float) -> float:
    """Draw the blocks below `top`; returns the bottom edge of the lowest."""
    rows = max(max(len(block.rows), len(block.shared)) for block in blocks)
    lies = grid(len(blocks), arms=len(arms), rows=rows, aspect=aspect, top=top)
    wide = 2 * LABEL + (lies.width + GAP) * (len(arms) + 1) - GAP
    step = max(wide + BETWEEN, (RIGHT - LEFT + BETWEEN) / lies.across) if lies.across > 1 else 0.0
    high = CAPTION + rows * (lies.height + GAP)
    for number, block in enumerate(blocks):
        down, across = divmod(number, lies.across)
        x, y = LEFT + across * step, top + NAMES + down * high
        if down == 0:
            _names(page, arms, x=x + 2 * LABEL + lies.width + GAP, y=top, width=lies.width)
        _block(page, block, [*arms], x=x, y=y, lies=lies)
    return top + NAMES + lies.down * high


def _names(page: Page, arms: Mapping[str, Look], *, x: float, y: float, width: float) -> None:
    for number, (arm, look) in enumerate(arms.items()):
        left = x + number * (width + GAP)
        page.swatch(left, y + 0.09, look, length=0.2)
        text = shorten(arm, width - 0.26, 7.5, weight="bold")
        page.write(left + 0.25, y + 0.125, text, 7.5, weight="bold")


def _block(page: Page, block: Block, arms: Sequence[str], *, x: float, y: float, lies: Grid) -> None:
    wide = 2 * LABEL + (lies.width + GAP) * (len(arms) + 1) - GAP
    page.write(x, y + 0.13, shorten(block.caption, wide, 7.5), 7.5, color=SOFT)
    y += CAPTION
    for row, (words, panel) in enumerate(block.shared):
        below = y + row * (lies.height + GAP)
        turned(page, words, x=x, y=below, height=lies.height)
        place(page, panel, x=x + LABEL, y=below, width=lies.width, height=lies.height)
    x += LABEL + lies.width + GAP
    for row, (words, panels) in enumerate(block.rows):
        below = y + row * (lies.height + GAP)
        turned(page, words, x=x, y=below, height=lies.height)
        for number, arm in enumerate(arms):
            left = x + LABEL + number * (lies.width + GAP)
            place(page, panels[arm], x=left, y=below, width=lies.width, height=lies.height)


def turned(page: Page, words: str, *, x: float, y: float, height: float) -> None:
    """Words from below to above, beside a row of panels."""
    text = shorten(words, height, 7)
    page.write(x + 0.07, y + height / 2, text, 7, color=SOFT, rotation=90, ha="center", va="center")


def place(page: Page, panel: Panel, *, x: float, y: float, width: float, height: float) -> None:
    """A picture as large as the place allows at its own aspect, in the upper left corner; a frame where it is none."""
    axes = _canvas(page)
    if panel.rgb is None:
        axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=HAIR, linewidth=0.6))
        words = panel.corner or "no picture"
        axes.text(x + width / 2, y + height / 2, words, size=7, color=FAINT, ha="center", va="center")
        return
    share = min(width / panel.rgb.shape[1], height / panel.rgb.shape[0])
    high, wide = (side * share for side in panel.rgb.shape[:2])
    axes.imshow(_fine(panel.rgb), extent=(x, x + wide, y + high, y), interpolation="none", aspect="auto")
    if panel.corner:
        _stroked(axes, x + 0.04, y + 0.04, panel.corner, size=6.5, ha="left", va="top")
    for down, across, mark in panel.marks:
        _stroked(axes, x + across * wide, y + down * high, mark, size=9, ha="center", va="center", weight="bold")


def _canvas(page: Page) -> Axes:
    """The whole sheet as one place to draw at, in inches from the upper left corner: an own one for each of a hundred
    pictures would take seconds."""
    axes = next((one for one in page.figure.axes if one.get_label() == CANVAS), None)
    if axes is None:
        axes = page.axes(0, 0, WIDTH, HEIGHT)
        axes.set_label(CANVAS)
        axes.set_axis_off()
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0))  # which pictures may have changed
    axes.set_autoscale_on(False)
    return axes


def aspect_of(pictures: Sequence[np.ndarray]) -> float:
    """Height by width of the tallest, as panels are laid out for it."""
    return min(max(one.shape[0] / one.shape[1] for one in pictures), TALLEST)


def _fine(rgb: np.ndarray) -> np.ndarray:
    times = -(-FINE // min(rgb.shape[:2]))
    return rgb.repeat(times, 0).repeat(times, 1)


def _stroked(axes: Axes, x: float, y: float, words: str, **how: object) -> None:
    text = axes.text(x, y, words, color=INK, **how)  # pyright: ignore[reportArgumentType]
    text.set_path_effects([withStroke(linewidth=2.0, foreground="white")])
