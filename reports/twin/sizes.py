"""What was measured at several sizes of the input, as the twin draws and copies it."""

from __future__ import annotations

from typing import NamedTuple

from reports import words
from reports.estimates import Column, final
from reports.resolution import over_sizes
from reports.run_folder import Run
from reports.twin.measures import in_units
from reports.twin.sheets import Sheet


class Sizes(NamedTuple):
    """A measure over sizes: the name of its figure and sheet, how it is called, what is said of it, and the sizes."""

    name: str
    title: str
    note: str
    sizes: list[int]


def sizes(run: Run) -> tuple[list[Sizes], dict[str, Sheet]]:
    """Each measure that was taken at several sizes, and its values at every lane's last step, in shown units."""
    found, sheets = [], {}
    for number, own in enumerate(over_sizes(run)):
        unit = f" ({words.unit(own[0])})" if words.unit(own[0]) else ""
        title = f"{own[0].title} on {own[0].dataset}{unit}"
        found.append(Sizes(f"size{number}", title, words.hint(own[0]), sorted({one.size for one in own})))
        rows = [row for column in own for lane in run.lanes if (row := _row(run, column, lane)) is not None]
        named = {"step": "step", "value": title, "low": f"{title}, low", "high": f"{title}, high", "said": "as said"}
        sheets[f"size{number}"] = Sheet({"arm": "arm", "size": "size"} | named, rows)
    return found, sheets


def _row(run: Run, column: Column, lane: str) -> list[object] | None:
    value = final(run, column, lane)
    if value is None:
        return None
    return [lane, column.size, value.step, *in_units(column, value)]
