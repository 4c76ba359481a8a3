"""Render `sweep.pdf` and `sweep.csv` of a sweep's folder from its record and tables."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from common.disk import whole
from common.errors import BadInput
from common.schema import written
from reports.cautions import few_images
from reports.effort import effort
from reports.page import Page, looks, number_pages, style
from reports.pdf import as_pdf
from reports.run_folder import Run
from reports.run_folder import read as read_run
from reports.sweep.ending import ending
from reports.sweep.front import front_page
from reports.sweep.history import history_page
from reports.sweep.parameters import importance_pages, slice_pages
from reports.sweep.pareto import pareto_page
from reports.sweep.read import Sweep, read
from reports.tradeoff import tradeoff_page

PATHS = 7  # trials whose paths are drawn


def build(folder: Path, *, draws: bool = True, tell: Callable[[str], object] | None = None) -> Path:
    """Write both files, whole at the end; returns the PDF's path. Raises `BadInput` where the record is missing.

    Args:
        draws: whether there is a PDF; without it the table's path is returned.
        tell: is told, line by line, what was found.
    """
    sweep, run = read(folder), _run(folder)
    target, table = folder / "sweep.pdf", folder / "sweep.csv"
    with ExitStack() as together:
        if draws:
            pdf = _drawn(sweep, run)
            together.enter_context(whole(target)).write_bytes(pdf)
        new_table = together.enter_context(whole(table))
        tidy(sweep, run).to_csv(new_table, index=False, lineterminator="\n")
    if tell is not None:
        for line in ending(sweep):
            tell(line)
    return target if draws else table


def _drawn(sweep: Sweep, run: Run | None) -> bytes:
    """The PDF."""
    with style():
        notes = few_images(run) if run else []
        pages = [front_page(sweep, notes), pareto_page(sweep), *paths_page(sweep, run), *importance_pages(sweep)]
        pages += [*slice_pages(sweep), history_page(sweep)]
        number_pages(pages, sweep.name)
        return as_pdf(pages, title=sweep.name)


def _run(folder: Path) -> Run | None:
    """The tables of the trials; None where nothing was evaluated."""
    try:
        return read_run(folder)
    except BadInput:
        return None


def paths_page(sweep: Sweep, run: Run | None) -> list[Page]:
    """The ways of the front's trials through dense and global quality, none where they were not evaluated so."""
    if run is None:
        return []
    chosen = [arm for arm in sweep.references if arm in run.arms]
    chosen += [trial.arm for trial in sweep.members[:PATHS] if trial.arm in run.arms]
    if not chosen:
        return []
    rows = tuple(row for row in run.rows if row.arm not in run.arms or row.arm in chosen)
    run = replace(run, arms=tuple(chosen), baseline=chosen[0], rows=rows)
    return [tradeoff_page(run, looks(run.arms, run.baseline))]


def _cell(value: Any) -> Any:
    """A value of a setting in a table: what YAML has a word for by that, all else as it is."""
    return written(value) if value is None or isinstance(value, bool) else value


def tidy(sweep: Sweep, run: Run | None) -> pd.DataFrame:
    """A row for each trial: its settings, each objective with the ends of its interval and on fresh seeds, its end.

    A setting that was drawn as null says so; one that does not apply beside the trial's others is empty. `seconds` are
    those of training without the trunk, the mean over seeds, in all of its attempts; a trial that was not run has none.
    """
    rows = []
    for trial in sweep.trials:
        row = {"trial": trial.arm, "state": trial.state, "same_as": trial.same_as, "front": trial.arm in sweep.front}
        row |= {key: _cell(trial.params[key]) if key in trial.params else None for key in sweep.space}
        for goal in sweep.goals:
            for name, values in ((goal.name, trial.values), (f"fresh {goal.name}", sweep.confirmed.get(trial.arm, {}))):
                one = values.get(goal.name)
                if one is not None or name == goal.name or sweep.confirmed:
                    row |= {name: one and one.value, f"{name} low": one and one.low, f"{name} high": one and one.high}
        seconds = effort(run, trial.arm).seconds if run is not None else None
        row |= {f"pruned {key}": (trial.pruned or {}).get(key) for key in ("step", "by", "value")}
        rows.append({**row, "seconds": seconds, "reason": trial.reason})
    return pd.DataFrame(rows, dtype=object)
