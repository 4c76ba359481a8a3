"""The tables of the twin: what the pages of the PDF say in cells, in the same words, and as numbers to copy."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reports import words
from reports.compared import PLACES, Difference, Differences, Where, foremost
from reports.compute_pages import reason
from reports.effort import effort
from reports.estimates import Column
from reports.lane_settings import lookup
from reports.page import Look
from reports.provenance import Item, blocks, shown
from reports.results_table import Table, TableLine, change_text, lines_of, protocol_text, remark, spread_text
from reports.run_folder import Run
from reports.since_start import changes, ends, side
from reports.steady import moving
from reports.twin.grid import Cell, Grid, Head, Line
from reports.twin.sheets import Sheet, sheet_of
from reports.verdict_pages import MARKS, judged
from reports.verdict_table import verdict_table
from reports.verdict_words import note, word

TONES = {"better": "good", "worse": "bad", "no worse than the margin": "even", "higher": "even", "lower": "even"}


def results(run: Run, compared: Differences, arm_looks: Mapping[str, Look]) -> Grid:
    """Lanes down, measures across: the table of page one with all its columns."""
    group = moving(run)
    table = Table(run, group, lines_of(run, group, compared=compared, arm_looks=arm_looks), effort=True)
    best_arms = table.best_arms
    heads = [Head("Arm", numeric=False)]
    heads += [
        Head(column.title, f"{column.dataset}, {words.unit(column)} {words.arrow(column)}, {protocol_text(column)}")
        for column in group
    ]
    heads += [Head("Steps", "images seen"), Head("Wall time", "operations"), Head("Images/s", "peak memory")]
    lines = [_result(table, line, best_arms) for line in table.lines]
    return Grid("results", "Results", heads, lines, _results_sheet(run, table))


def _result(table: Table, line: TableLine, best_arms: Sequence[str | None]) -> Line:
    run, cells = table.run, [Cell(line.lane, below=remark(table.run, line.lane), by=line.lane)]
    for column, value, change, best in zip(table.group, line.values, line.differences, best_arms, strict=True):
        if value is None:
            cells.append(Cell(words.NONE))
            continue
        below = change_text(column, change, value) if change is not None else ""
        tone = "" if change is None or change.is_shown else "faint"
        small, text = spread_text(run, column, value), words.value(column, value)
        cells.append(Cell(text, small, below, value.value, strong=best == line.lane, tone=tone))
    spent = effort(run, line.lane)
    by = (spent.step, spent.seconds, spent.images_per_second)
    pairs = zip(words.effort_cells(run, line.lane), by, strict=True)
    return Line([*cells, *(Cell(text, below=below, by=key) for (text, below), key in pairs)], line.lane)


def _results_sheet(run: Run, table: Table) -> Sheet:
    rows = []
    for line in table.lines:
        spent = effort(run, line.lane)
        for column, value, change in zip(table.group, line.values, line.differences, strict=True):
            if value is None:
                continue
            ends = (change.value, change.low, change.high, word(change)) if change is not None else (None,) * 4
            rows.append([
                line.lane, column.title, column.dataset, column.split, column.protocol, column.protocol_hash,
                words.unit(column), value.step, value.seeds, *_scaled(column, value.value, value.low, value.high),
                value.over, *_scaled(column, *ends[:3]), ends[3], spent.images, spent.seconds,
                spent.images_per_second, spent.peak_memory_gib,
            ])  # fmt: skip
    titles = "arm measure dataset split protocol protocol_hash unit step seeds value low high over difference"
    titles += " difference_low difference_high verdict images_seen seconds images_per_second peak_memory_gib"
    return Sheet({name: name for name in titles.split()}, rows)


def _scaled(column: Column, *values: float | None) -> list[float | None]:
    return [None if value is None else value * words.scale(column) for value in values]


def verdicts(run: Run, compared: Differences) -> Grid:
    """Each arm against the baseline in each metric, as the report shows it first."""
    names = ("Measure", "Arm", "Difference", "95 % interval", "Margin", "Seeds", "Verdict", "Why")
    heads = [Head(name, numeric=name in ("Difference", "95 % interval", "Margin", "Seeds")) for name in names]
    shown = [one for _, arms in judged(run, compared) for one in arms]
    places, overs = ({of(one) for one in shown} for of in (_where, _over))
    shared = {text for found in (places, overs) if len(found) == 1 for text in found if text}
    lines = [_verdict(one, shared) for one in shown]
    table = verdict_table(run, compared)
    first = table.loc[table["foremost"].astype(bool), :]  # without a row, its type is unknown
    caption = ", ".join(["Every difference from the baseline", *sorted(shared)])
    return Grid("verdicts", caption, heads, lines, sheet_of(first))


def _where(one: Difference) -> str:
    return f"at step {words.count(one.step)}" if one.measure == "steps" else words.place(one)


def _over(one: Difference) -> str:
    return f"over {one.over}" if one.over else ""


def _verdict(one: Difference, shared: Collection[str]) -> Line:
    """A row, without what the caption says of all."""
    column, factor, said = one.column, words.scale(one.column), word(one)
    measure, unit = f"{column.title} on {column.dataset}", words.difference_unit(column)
    where, over = ("" if text in shared else text for text in (_where(one), _over(one)))
    gain = column.direction * one.value * factor
    bracket = words.bracket(column, one) or "no interval"
    cells = [
        Cell(measure, below=f"{unit} {words.arrow(column)}".strip(), by=measure),
        Cell(one.arm, below=where, by=one.arm),
        Cell(words.amount(column, one), by=gain, strong=True),
        Cell(bracket, below=over, by=_finite((one.high - one.low) * factor)),
        Cell(words.margin(one), by=one.verdict.margin if one.verdict else None),
        Cell(str(one.seeds), by=one.seeds),
        Cell(MARKS.get(said, "") + said, by=said, strong=said in TONES, tone=TONES.get(said, "faint")),
        Cell(note(one), by=note(one)),
    ]
    return Line(cells, one.arm)


def since(run: Run) -> Grid:
    """Each arm against its own beginning, in the leading measures."""
    group = words.leading_or_first(run)
    found = changes(run, group, run.arms)
    heads = [Head("Arm", numeric=False), Head("Steps", "first, last")]
    heads += [Head(column.title, f"on {column.dataset} {words.arrow(column)}") for column in group]
    lines, rows = [], []
    for arm in run.arms:
        own = [found.get((column, arm)) for column in group]
        known = next((one for one in own if one is not None), None)
        if known is None:
            continue
        both = f"{words.count(known.baseline_step)}, {words.count(known.step)}"
        lines.append(Line([Cell(arm, by=arm), Cell(both, by=known.step), *map(_since, own)], arm))
        rows += [
            [arm, one.column.title, one.column.dataset, one.baseline_step, one.step, one.seeds,
             *_scaled(one.column, one.baseline, one.value, one.low, one.high), one.over]
            for one in own if one is not None
        ]  # fmt: skip
    titles = ["arm", "measure", "dataset", "first_step", "last_step", "seeds", "first", "difference", "low", "high"]
    sheet = Sheet({name: name for name in (*titles, "over")}, rows)
    return Grid("since", "Since the start of training", heads, lines, sheet)


def _since(one: Difference | None) -> Cell:
    if one is None:
        return Cell(words.NONE)
    by, tone = one.value * words.scale(one.column), TONES.get(side(one), "")
    return Cell(words.difference(one.column, one), "", ends(one), by, tone=tone)


def compute(run: Run, compared: Differences) -> Grid:
    """Each arm against the baseline where both have used as much, in the leading measures."""
    group = words.leading_or_first(run)
    heads = [
        Head("Arm", numeric=False),
        Head("Where", numeric=False),
        Head("Both used"),
        Head("Steps", "arm, baseline"),
    ]
    heads += [Head(column.title, f"on {column.dataset} {words.arrow(column)}") for column in group]
    lines = []
    for arm in run.others:
        if any(foremost(run, compared, column, arm) for column in group):
            chained = any((column, arm, "ends") in compared for column in group)
            places = PLACES if chained else PLACES[:-1]
            lines += [_equal(run, compared, arm, measure, group=group, chained=chained) for measure in places]
    return Grid("compute", "Equal steps, equal compute", heads, lines, sheet_of(verdict_table(run, compared)))


def _equal(
    run: Run, compared: Differences, arm: str, measure: Where, *, group: Sequence[Column], chained: bool
) -> Line:
    found = [compared.get((column, arm, measure)) for column in group]
    known = next((one for one in found if one is not None), None)
    cells = [Cell(arm, by=arm), Cell(words.PLACES[measure], by=PLACES.index(measure))]
    if known is None:
        why = Cell(words.NONE, below=reason(run, arm, measure, chained=chained))
        return Line([*cells, why, *(Cell(words.NONE) for _ in range(len(group) + 1))], arm)
    both = f"{words.count(known.step)}, {words.count(known.baseline_step)}"
    cells += [Cell(words.budget(known), by=known.budget), Cell(both, by=known.step)]
    return Line([*cells, *(_difference(one) for one in found)], arm)


def _difference(one: Difference | None) -> Cell:
    if one is None:
        return Cell(words.NONE)
    said, by = word(one), one.value * words.scale(one.column)
    return Cell(words.difference(one.column, one), "", MARKS.get(said, "") + said, by, tone=TONES.get(said, "faint"))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def overrides(run: Run) -> Grid:
    """What each arm sets, beside what the experiment has."""
    keys = list(dict.fromkeys(key for arm in run.arms for key in run.overrides.get(arm, {})))
    heads = [
        Head("Setting", numeric=False),
        Head("Shared", numeric=False),
        *(Head(arm, numeric=False) for arm in run.arms),
    ]
    lines, rows = [], []
    for key in keys:
        base = shown(lookup(run.config, key, absent=""))
        own = [run.overrides.get(arm, {}) for arm in run.arms]
        texts = [shown(one[key]) if key in one else "" for one in own]
        lines.append(
            Line([Cell(key, by=key), Cell(base), *(Cell(text or "·", tone="" if text else "faint") for text in texts)])
        )
        rows.append([key, base, *texts])
    titles = {f"f{place}": head.text for place, head in enumerate(heads)}
    return Grid("overrides", "What the arms set", heads, lines, Sheet(titles, rows))


@dataclass(frozen=True)
class Block:
    """A part of the configuration or of what stands behind the numbers: a title and its lines."""

    title: str
    items: Sequence[Item]


def configuration(run: Run) -> tuple[list[Block], Sheet]:
    """Environment, data, protocols, then every setting; and the same as key and value."""
    found = [Block(block[0].key, block[1:]) for block in blocks(run)]
    rows: list[list[Any]] = []
    for block in found:
        path: list[str] = []
        for item in block.items:
            path = [*path[: item.depth], item.key]
            if item.value != "":
                rows.append([block.title, ".".join(path), shown(item.value, longest=10**6)])
    return found, Sheet({"part": "part", "key": "key", "value": "value"}, rows)
