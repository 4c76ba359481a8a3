"""Measures that never change: a line of text tells them, in place of columns, verdicts and panels."""

from __future__ import annotations

from reports import words
from reports.estimates import Column, columns, of_column
from reports.run_folder import Run


def moving(run: Run) -> list[Column]:
    """The columns of the run but for those that have one value at all of two steps or more.

    All of them where none moves, since a report shows something.
    """
    found = columns(run)
    return [column for column in found if _level(run, column) is None] or found


def steady(run: Run) -> str:
    """The others and what they were all the time; "" where there are none."""
    shown = moving(run)
    still = {column: level for column in columns(run) if column not in shown and (level := _level(run, column))}
    said = [f"{column.title} on {column.dataset} {level}" for column, level in still.items()]
    return f"The same in every evaluation: {', '.join(said)}." if said else ""


def _level(run: Run, column: Column) -> str | None:
    rows = of_column(run, column, finite=False)
    if len({row.step for row in rows}) < 2 or len({row.value for row in rows}) > 1:
        return None
    return words.number(rows[0].value * words.scale(column), words.digits(column)) + words.unit(column)
