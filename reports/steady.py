"""Measures that never change: a line of text tells them, in place of columns, verdicts and panels."""

from __future__ import annotations

from reports import words
from reports.estimates import Column, columns, of_column
from reports.run_folder import Run


def moving(run: Run) -> list[Column]:
    """The columns of the run but for those that have one value at all of two steps or more.

    All of them where none moves, since a report shows something.
    """
    levels = _levels(run)
    return [column for column in columns(run) if column not in levels]


def steady(run: Run) -> str:
    """The others and what they were all the time; "" where there are none."""
    said = [f"{column.title} on {column.dataset} {level}" for column, level in _levels(run).items()]
    return f"The same in every evaluation: {', '.join(said)}." if said else ""


def _levels(run: Run) -> dict[Column, str]:
    """What each column that never changes was all the time; {} where none moves."""
    found = {column: _level(run, column) for column in columns(run)}
    still = {column: level for column, level in found.items() if level is not None}
    return still if len(still) < len(found) else {}


def _level(run: Run, column: Column) -> str | None:
    rows = of_column(run, column, finite=False)
    if len({row.step for row in rows}) < 2 or len({row.value for row in rows}) > 1:
        return None
    return words.number(rows[0].value * words.scale(column), words.digits(column)) + words.unit(column)
