"""What every picture is drawn on: a page of panels in rows and columns, with room for the words around them.

Lengths are inches and run from the top left corner. Colours are those of Okabe and Ito ("Color Universal Design",
2008), told apart with the common colour-vision deficiencies.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from common import drawing
from common.disk import whole
from common.drawing import shorten, wrap

INK, SOFT, UNKNOWN = "#1a1a1a", "#5c5c5c", "#bdbdbd"
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"

DPI = 150
MARGIN, TALLEST = 0.3, 1.5
ABOVE = 0.12  # free space over a row's caption, so that it is read with the row below it
TITLE, BODY, SMALL = 12.0, 9.0, 8.0
LINE = 1.35 / 72  # height of a line of text per point of its size

_STYLE = {
    "font.size": SMALL,
    "text.color": INK,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": SOFT,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "image.interpolation": "nearest",
    "svg.hashsalt": "gramlab",  # else its names of parts are drawn at random
}


def style() -> Any:
    """A context in which only the look of these pictures counts."""
    return drawing.style(_STYLE)


@dataclass(frozen=True)
class SheetColumn:
    """One column of panels; `gap` is the free space behind it, `narrow` panels hold a colour bar and no image."""

    heading: str
    width: float
    gap: float = 0.08
    colour: str = INK
    narrow: bool = False


@dataclass(frozen=True)
class Sheet:
    """A figure, its panels as [row][column] and how many inches at its foot are still free."""

    figure: Figure
    panels: list[list[Axes]]
    foot: float


def lay_out(
    columns: Sequence[SheetColumn],
    captions: Sequence[str],
    *,
    aspects: Sequence[float],
    title: str,
    note: str,
    foot: float = 0.0,
) -> Sheet:
    """A page with one row of panels for each caption, which stands above it; `aspects` are height by width.

    The page grows with its rows, so nothing is squeezed; a panel's height is at most `TALLEST` times its width.
    """
    wide = sum(column.width + column.gap for column in columns) + 2 * MARGIN
    room = wide - 2 * MARGIN
    lines = wrap(note, room, SMALL)
    widest = max(column.width for column in columns)
    heights = [widest * min(aspect, TALLEST) for aspect in aspects]
    head = MARGIN + TITLE * LINE + len(lines) * SMALL * LINE + 0.14 + BODY * LINE
    high = head + sum(heights) + (ABOVE + SMALL * LINE) * len(heights) + foot + MARGIN
    figure = Figure(figsize=(wide, high))
    write_line(figure, MARGIN, MARGIN, shorten(title, room, TITLE, weight="bold"), size=TITLE, weight="bold")
    for number, line in enumerate(lines):
        write_line(figure, MARGIN, MARGIN + (TITLE + number * SMALL) * LINE + 0.04, line, size=SMALL, colour=SOFT)
    panels, top = [], head
    for text, height in zip(captions, heights, strict=True):
        write_line(figure, MARGIN, top + ABOVE - 0.02, shorten(text, room, SMALL), size=SMALL, colour=SOFT)
        top += ABOVE + SMALL * LINE
        panels.append(_row(figure, columns, top, height))
        top += height
    _headings(figure, columns, head - BODY * LINE)
    return Sheet(figure, panels, foot)


def _row(figure: Figure, columns: Sequence[SheetColumn], top: float, height: float) -> list[Axes]:
    wide, high = figure.get_size_inches()
    panels, left = [], MARGIN
    for column in columns:
        axes = figure.add_axes((left / wide, 1 - (top + height) / high, column.width / wide, height / high))
        if not column.narrow:
            axes.set_axis_off()
        panels.append(axes)
        left += column.width + column.gap
    return panels


def _headings(figure: Figure, columns: Sequence[SheetColumn], top: float) -> None:
    left = MARGIN
    for column in columns:
        write_line(figure, left, top, column.heading, size=BODY, weight="bold", colour=column.colour)
        left += column.width + column.gap


def show(axes: Axes, picture: np.ndarray, *, like: np.ndarray, **how: Any) -> Any:
    """Draw an [h w] or [h w c] picture over the area of the image `like`, each of its cells as one flat rectangle."""
    height, width = like.shape[:2]
    return axes.imshow(picture, extent=(0, width, height, 0), interpolation="nearest", **how)


def show_photo(axes: Axes, image: np.ndarray) -> None:
    """Draw an image, smoothed where it has more pixels than the page."""
    axes.imshow(image, extent=(0, image.shape[1], image.shape[0], 0), interpolation="auto")


def write_line(
    figure: Figure, left: float, top: float, text: str, *, size: float, weight: str = "normal", colour: str = INK
) -> None:
    """One line of text whose top left corner lies at these inches."""
    wide, high = figure.get_size_inches()
    figure.text(left / wide, 1 - top / high, text, size=size, weight=weight, color=colour, va="top", ha="left")


def write(folder: Path, name: str, figure: Figure) -> Path:
    """Save `<name>.png` (150 dpi), whole or not at all."""
    path = folder / f"{name.replace(os.sep, '_')}.png"
    save(figure, path)
    return path


def save(figure: Figure, path: Path) -> None:
    """Save a figure in the format of its file name, whole or not at all, with nothing in it that tells the time."""
    timeless = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}}.get(path.suffix.lower())
    with whole(path) as new, style():
        drawing.make_drawable(figure)
        figure.savefig(new, dpi=DPI, metadata=timeless)
