"""A table of the twin: its heads, and its lines of cells, as the template writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from reports.twin.sheets import Sheet


@dataclass(frozen=True)
class Cell:
    """What stands in a cell: its text, smaller text behind and below it, and by what the column is sorted.

    axes: the fields that its button puts right and up in the trade-off, where it has one.
    """

    text: str
    small: str = ""
    below: str = ""
    by: float | str | None = None
    strong: bool = False
    tone: str = ""
    axes: tuple[str, str] | None = None


@dataclass(frozen=True)
class Head:
    """A column's title, what stands below it, and whether it holds numbers."""

    text: str
    below: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Line:
    """A row; `arm` is the lane whose row it is, if it is one's."""

    cells: Sequence[Cell]
    arm: str = ""


@dataclass(frozen=True)
class Grid:
    """A table of the page and, under the same name, the sheet that its button copies."""

    name: str
    caption: str
    heads: Sequence[Head]
    lines: Sequence[Line]
    sheet: Sheet = field(repr=False)
