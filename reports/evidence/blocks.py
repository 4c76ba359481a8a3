"""What a page can be filled with in words and tables: falls, verdicts, values, cost."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from common.errors import BadInput
from reports import words
from reports.estimates import Column, Estimate, of_column
from reports.evidence import falls as measured
from reports.evidence.asked import Asked, asked
from reports.evidence.filled import Filled, table
from reports.evidence.stored import Shelf
from reports.lineage import on_way
from reports.run_folder import COLUMN_KEYS

LAST = "last"
AT = {**words.PLACES, "steps": "the last step that both were evaluated at"}


def falls(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT METRIC... [arms: ARM...]`: a row for each arm and metric, from the peak to the last value."""
    got = asked(shelf, given)
    rows = []
    for column in got.columns:
        for arm in got.arms:
            if (found := measured.falls(got.run, column, arm)) is not None:
                rows.append([f"`{arm}`", _title(column), *_fall_cells(column, found)])
    head = ["arm", "measure", "peak", "at step", "last", "at step", "fall, % of the peak", "seeds"]
    said = (
        "Fall from the peak to the last value, in brackets its 95 % interval over seeds; for each seed the peak's step "
        "is that of the mean of the other seeds."
    )
    return Filled(f"{table(head, rows)}\n\n{said}")


def _fall_cells(column: Column, found: measured.Fall) -> list[str]:
    share = Estimate(100 * found.share, 100 * found.low, 100 * found.high, found.last_step, found.seeds, "seeds")
    first, last = found.peak_steps
    ends = ", ".join(words.number(end, 1, signed=True) for end in (share.low, share.high))
    return [
        _number(column, found.peak),
        words.count(first) if first == last else f"{words.count(first)} … {words.count(last)}",
        _number(column, found.last),
        words.count(found.last_step),
        words.number(share.value, 1, signed=True) + (f" [{ends}]" if found.seeds > 1 else " (one seed)"),
        str(found.seeds),
    ]


def verdicts(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT METRIC... [arms: ARM...]`: each arm minus the baseline, its interval and its verdict."""
    got = asked(shelf, given)
    found = got.tables.verdicts[got.tables.verdicts["foremost"].astype(bool)]
    arms = [arm for arm in got.arms if arm != got.run.baseline]
    lines = {(arm, column): _line(found, arm, column) for arm in arms for column in got.columns}
    rows = [[f"`{arm}`", *(_verdict(lines[arm, column], column) for column in got.columns)] for arm in arms]
    head = ["arm", *(_title(column, difference=True) for column in got.columns)]
    shown = pd.DataFrame([line for line in lines.values() if line is not None])
    if not len(shown):
        raise BadInput(f"got {got.tables.name}: want an experiment that compares these arms; it has no such verdicts")
    return Filled(f"{table(head, rows)}\n\n{_basis(got, shown)}")


def _line(found: pd.DataFrame, arm: str, column: Column) -> Any:
    """The row of `verdicts` of an arm's foremost comparison in a column; None where there is none."""
    same = found["arm"] == arm
    for key in COLUMN_KEYS:
        same &= found[key] == getattr(column, key)
    return next((row.to_dict() for _, row in found[same].iterrows()), None)


def _verdict(line: dict[str, Any] | None, column: Column) -> str:
    """ "+5.0 [+2.6, +7.3], better" """
    if line is None:
        return words.NONE
    estimate = Estimate(line["difference"], line["low"], line["high"], line["step"], line["seeds"], line["over"])
    return f"{words.amount(column, estimate)} {words.bracket(column, estimate)}".strip() + f", {line['verdict']}"


def _basis(got: Asked, shown: pd.DataFrame) -> str:
    """What is compared with what, where, and what intervals and words rest on."""
    places = " or ".join(AT[place] for place in dict.fromkeys(shown["at"]))
    seeds, over = (_several(shown[key]) for key in ("seeds", "over"))
    compared = _several(shown["comparisons"].dropna().astype(int))
    corrected = (
        f", words corrected over {compared} comparisons of a measure (Holm)" if compared not in ("", "1") else ""
    )
    interval = f"brackets: 95 % intervals over {over}{corrected}" if over else "no interval is known"
    many = "seed" if seeds == "1" else "seeds"
    return f"Arm minus `{got.run.baseline}` at {places}; {seeds} {many}; {interval}."


def values(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT STEP METRIC... [arms: ARM...]`: mean and range over seeds; STEP may be `last`, of each arm."""
    if len(given) < 2 or not (given[1] == LAST or given[1].isdecimal()):
        got = given[1] if len(given) > 1 else "no step"
        raise BadInput(f"got {got}: want a step behind the experiment; give a number, or {LAST}")
    got = asked(shelf, [given[0], *given[2:]])
    step = None if given[1] == LAST else int(given[1])
    rows = []
    for arm in got.arms:
        found = [_by_seed(got, column, arm, step) for column in got.columns]
        counts, at = {len(one) for one in found}, {s for one in found for s, _ in one}
        rows.append([f"`{arm}`", *(map(_range, got.columns, found)), _several(sorted(at)), _several(sorted(counts))])
    if not any(row[-2] for row in rows):
        raise BadInput(f"got step {given[1]}: want one at which {got.tables.name} was evaluated; give {LAST}")
    head = ["arm", *map(_title, got.columns), "step", "seeds"]
    return Filled(f"{table(head, rows)}\n\nMean over seeds, in brackets the lowest and the highest of them.")


def _by_seed(got: Asked, column: Column, arm: str, step: int | None) -> list[tuple[int, float]]:
    """Step and value of each seed that has one there, on the arm's way from step 0."""
    rows, found = of_column(got.run, column), []
    last = max((row.step for row in rows if row.arm == arm), default=0)
    for seed in got.run.seeds:
        if any((row.arm, row.seed) == (arm, seed) for row in rows):
            way = {row.step: row.value for row in on_way(got.run, rows, arm, seed)}
            at = last if step is None else step
            found += [(at, way[at])] if at in way else []
    return found


def _range(column: Column, found: Sequence[tuple[int, float]]) -> str:
    """ "22.6 (22.1 … 23.0)" """
    if not found:
        return words.NONE
    numbers = np.array([value for _, value in found])
    mean = _number(column, float(numbers.mean()))
    if len(numbers) == 1:
        return mean
    return f"{mean} ({_number(column, float(numbers.min()))} … {_number(column, float(numbers.max()))})"


def cost(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT`: seeds, steps, hours, machine, commit."""
    if len(given) != 1:
        raise BadInput(f"got {' '.join(given) or 'nothing'}: want the name of one experiment alone")
    tables = shelf.experiment(given[0])
    jobs, run = tables.jobs, tables.run
    seeds, done = list(run.seeds), sum(jobs["state"] == "done")
    machine = run.environment
    where = f"{machine['cores']} cores of {machine['cpu']}" if machine["device"] == "cpu" else machine["device"]
    hours, cpu = sum(jobs["hours"].fillna(0)), sum(jobs["cpu_hours"].fillna(0))
    times = f"{words.number(hours, 1)} hours of training" + (f" ({words.number(cpu, 1)} CPU hours)" if cpu else "")
    said = [
        f"{len(run.arms)} arms, {len(seeds)} seeds ({', '.join(map(str, seeds))}), up to step {words.count(run.steps)}",
        f"{done} of {len(jobs)} jobs done",
        f"{times}, {words.operations(sum(jobs['flops'].fillna(0)))}, evaluations not counted",
        f"{where}, {machine['memory_gib']:.0f} GiB; torch {_several(jobs['torch'])}",
        f"commit {_several(jobs['git'])}",
    ]
    return Filled("; ".join(said) + ".")


def _title(column: Column, *, difference: bool = False) -> str:
    unit = ("points" if difference else "%") if column.is_share else column.kind.unit
    return f"{column.title}{f', {unit}' if unit else ''} {words.arrow(column)}"


def _number(column: Column, value: float) -> str:
    return words.number(value * words.scale(column), words.digits(column))


def _several(values: Iterable[Any]) -> str:
    """The unlike ones among them, "3" or "2 or 3"."""
    return " or ".join(dict.fromkeys(str(value) for value in values if not pd.isna(value) and str(value)))
