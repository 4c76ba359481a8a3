"""Results as Markdown, as GitHub and mkdocs show it: a table for each group of measures, and what is said of them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reports.paper.sheet import Cell, Grid, Head, Sheet
from reports.words import JOIN

_MARKS = re.compile(r"([\\`*_]|\](?=[(\[:])|^#)")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;", "~": "&#126;", "$": "&#36;"}


def text(sheets: Sequence[Sheet]) -> str:
    """The file: a caption, the table of the leading measures, that of the others, and what is not done."""
    parts, sheet = list[str](), sheets[0]
    for one in sheets:
        first, *others = (_table(one, grid) for grid in one.grids)
        parts += [f"**{escaped(one.name)}.** {escaped(' '.join(one.caption))}", first]
        parts += ["Other measures:", *others] if others else []
    parts.append(escaped(f"Protocols: {sheet.protocols}. Gramlab {sheet.version}".strip() + "."))
    if sheet.missing:
        parts.append("Not done:\n\n" + "\n".join(f"- {escaped(line)}" for line in sheet.missing))
    return "\n\n".join(parts) + "\n"


def escaped(words: str) -> str:
    """Text that stands as it is: no letter of it is a mark, and it stays in its cell."""
    plain = "".join(letter if letter.isprintable() or letter == JOIN else " " for letter in words)
    return "".join(_ENTITIES.get(letter, letter) for letter in _MARKS.sub(r"\\\1", plain))


def _table(sheet: Sheet, grid: Grid) -> str:
    rows = [
        ["arm", *map(_head, grid.heads)],
        [":--", *["--:"] * len(grid.heads)],
        *([_arm(sheet, grid, arm), *map(_cell, cells)] for arm, cells in grid.rows),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _head(head: Head) -> str:
    title = escaped(" ".join(filter(None, [head.title, head.arrow])))
    return f"{title}<br>{escaped(head.where)}" if head.where else title


def _arm(sheet: Sheet, grid: Grid, arm: str) -> str:
    return f"{escaped(arm)} (baseline)" if arm == sheet.baseline and len(grid.rows) > 1 else escaped(arm)


def _cell(cell: Cell) -> str:
    value = f"**{escaped(cell.value)}**" if cell.best else escaped(cell.value)
    first = " ".join(filter(None, [value, escaped(cell.spread)]))
    change = ", ".join(filter(None, [f"{cell.change} {cell.interval}".strip(), cell.verdict]))
    return f"{first}<br>{escaped(change)}" if change else first
