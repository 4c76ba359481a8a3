"""What a table in a paper or a README holds, as plain words: arms down, measures across, at the last common step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from common.errors import listing
from common.records import EQUAL_COMPUTE
from evals.results.metrics import LEADING, Metric
from reports import words
from reports.cautions import few_images
from reports.compared import Difference, Differences, compare, foremost
from reports.estimates import Column, Estimate, best, columns, final
from reports.run_folder import Run
from reports.verdict_words import brief

BESIDE = 5  # measures beside one another


@dataclass(frozen=True)
class Head:
    """Above a column: "mIoU", "↑", "scenes, %"."""

    title: str
    arrow: str
    where: str


@dataclass(frozen=True)
class Cell:
    """A value with its spread, "52.0" and "± 1.2", and its difference from the baseline; "" for what there is not."""

    value: str
    spread: str = ""
    change: str = ""
    interval: str = ""
    verdict: str = ""
    best: bool = False


@dataclass(frozen=True)
class Grid:
    """One table: heads, and a row of cells for each arm."""

    heads: list[Head]
    rows: list[tuple[str, list[Cell]]]


@dataclass(frozen=True)
class Sheet:
    """The tables of a run, that of the leading measures first, and what is said of all of them.

    step: the last one that all arms were evaluated at; None where there is none, and each arm is at its own last.
    """

    name: str
    label: str
    version: str
    baseline: str
    step: int | None
    grids: list[Grid]
    caption: list[str]
    protocols: str
    missing: list[str]


def sheets(run: Run, against: Sequence[str] = ()) -> list[Sheet]:
    """Those with differences from the baseline, then from each arm of `against`."""
    others = [arm for arm in dict.fromkeys(against) if arm != run.baseline]
    return [_sheet(run), *(_sheet(replace(run, baseline=arm), label=f"{run.name}-against-{arm}") for arm in others)]


def _sheet(run: Run, label: str = "") -> Sheet:
    step = common_step(run)
    view = run if step is None else replace(run, rows=tuple(row for row in run.rows if row.step <= step))
    compared = compare(view) if step is None else compare(view, at=("steps",))
    found = columns(view)
    lead = [column for column in found if column.metric.partition("@")[0] in LEADING] or found
    groups = [*_split(lead), *_split([column for column in found if column not in lead])]
    version = " ".join(str(run.environment[key]) for key in ("gramlab", "git") if run.environment.get(key))
    return Sheet(
        name=run.name,
        label=label or run.name,
        version=version,
        baseline=run.baseline,
        step=step,
        grids=[_grid(view, group, compared, step) for group in groups],
        caption=_caption(view, compared, step),
        protocols=listing([*dict.fromkeys(f"{c.protocol} #{c.protocol_hash}" for c in found)], most=99),
        missing=words.briefly(words.incomplete(run)),
    )


def common_step(run: Run) -> int | None:
    """The last step that all evaluated arms were evaluated at; None where compute is equal, not steps."""
    if any(own.get("steps") == EQUAL_COMPUTE for own in run.overrides.values()):
        return None
    steps = [{row.step for row in run.rows if row.arm == arm and row.step > 0} for arm in run.arms]
    return max(set[int].intersection(*known), default=None) if (known := [one for one in steps if one]) else None


def _split(found: Sequence[Column]) -> list[Sequence[Column]]:
    return [found[start : start + BESIDE] for start in range(0, len(found), BESIDE)]


def _grid(run: Run, group: Sequence[Column], compared: Differences, step: int | None) -> Grid:
    values = {column: {arm: final(run, column, arm) for arm in run.arms} for column in group}
    rows = [
        (arm, [_cell(run, column, arm, values=values[column], compared=compared, step=step) for column in group])
        for arm in run.arms
    ]
    return Grid([_head(column) for column in group], rows)


def _head(column: Column) -> Head:
    known = isinstance(column.kind, Metric)
    where = ", ".join(filter(None, [column.dataset, words.unit(column)]))
    return Head(column.title, words.arrow(column) if known else "", where)


def _cell(
    run: Run,
    column: Column,
    arm: str,
    *,
    values: Mapping[str, Estimate | None],
    compared: Differences,
    step: int | None,
) -> Cell:
    own = values[arm]
    if own is None:
        return Cell(words.NONE)
    late = f"@{own.step}" if own.step != (step or run.steps) else ""
    spread = " ".join(filter(None, [words.half_width(column, own), late]))
    judged = isinstance(column.kind, Metric) and not column.kind.relative
    cell = Cell(words.value(column, own), spread, best=judged and best(dict(values), column) == arm)
    one = foremost(run, compared, column, arm)
    return cell if one is None else replace(cell, **_change(column, one))


def _change(column: Column, one: Difference) -> dict[str, str]:
    return {"change": words.amount(column, one), "interval": words.bracket(column, one), "verdict": brief(one)}


def _caption(run: Run, compared: Differences, step: int | None) -> list[str]:
    values = [value for column in columns(run) for arm in run.arms if (value := final(run, column, arm))]
    over, counts = {value.over for value in values}, sorted({value.seeds for value in values})
    kinds = {"seeds": "seeds", "images": "evaluation images"}
    spread = " or ".join(kinds[kind] for kind in sorted(over) if kind)
    seeds = (
        f"mean of {' to '.join(map(str, counts[:: max(len(counts) - 1, 1)]))} seeds" if counts != [1] else "one seed"
    )
    said = [
        f"{'Each arm at its last step' if step is None else f'After {step} steps'}, {seeds}.",
        f"±: half of the 95 % interval over {spread}." if spread else "",
    ]
    if run.others:
        shown = [one for (column, arm, _), one in compared.items() if one is foremost(run, compared, column, arm)]
        places = dict.fromkeys(words.PLACES[one.measure] for one in shown)
        where = "" if step is not None or not places else f", at {' or '.join(places)}"
        said.append(f"Below: difference from {run.baseline}{where}.")
        said.append(words.interval_note(run, compared))
    if any(brief(one) == "no worse" for one in compared.values()):
        said.append("No worse: by less than the margin of the measure.")
    return [*filter(None, [*said, "Bold: best value." if len(run.arms) > 1 else "", *few_images(run)])]
