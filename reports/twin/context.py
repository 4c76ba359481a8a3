"""Tables of the twin beside the results: what came from what, whether signs of health know, the paper's Gram table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from common.errors import listing
from reports import words
from reports.compared import Differences
from reports.estimates import Column, final
from reports.gram_teachers import teacher_age
from reports.graph import Stretch, segments, stretches
from reports.parts import Line as Series
from reports.published_gram import TABLE, Published, rows_of, teacher_words
from reports.ranks import ACROSS, INSIDE
from reports.run_folder import Run
from reports.signs import Signs, signs_of
from reports.twin.grid import Cell, Grid, Head, Line
from reports.twin.measures import Field
from reports.twin.sheets import Sheet

KINDS = {INSIDE: "inside runs", ACROSS: "across arms"}


def lineage(run: Run) -> Grid:
    """Lanes in the order of a tree: from where each forks, how far it came, and how old its Gram teacher is."""
    heads = [
        Head("Arm", numeric=False),
        Head("Begins at"),
        Head("Forks from", numeric=False),
        Head("Came to"),
        Head("Gram loss", "from step"),
        Head("Gram teacher", numeric=False),
        Head("Shared, stored", numeric=False),
    ]
    found = stretches(run)
    jobs, trained = segments(run)
    said = f", {jobs} jobs in {trained} segments" if jobs else ""
    titles = "arm begins_at forks_from came_to of_step gram_start renewals teacher_age notes"
    sheet = Sheet({name: name for name in titles.split()}, [_stretch_row(run, one) for one in found])
    return Grid("lineage", f"What came from what{said}", heads, [_stretch(run, one) for one in found], sheet)


def _stretch(run: Run, one: Stretch) -> Line:
    lane, last = one.lane, max(one.reached, one.lane.start)
    gram = lane.gram_start
    cells = [
        Cell(lane.name, by=lane.name),
        Cell(words.count(lane.start), by=lane.start),
        Cell(lane.parent or words.NONE),
        Cell(words.count(last), below=f"of {words.count(lane.stop)}" if last < lane.stop else "", by=last),
        Cell(words.count(gram), by=gram),
        Cell(_teacher(run, one)),
        Cell("; ".join(one.notes) or words.NONE),
    ]
    return Line(cells, lane.name)


def _teacher(run: Run, one: Stretch) -> str:
    """ "renewed at step 40; 20 steps old at the end", over all seeds; what moves along or is given has no age."""
    if one.lane.name not in run.arms:
        return words.NONE
    ages = [teacher_age(run, one.lane.name, seed) for seed in run.seeds]
    if phrase := next((age for age in ages if isinstance(age, str)), None):
        return phrase
    ends = sorted({int(age.values[-1]) for age in ages if isinstance(age, Series)})
    if not ends:
        return words.NONE
    renewed = listing([words.count(step) for step in one.lane.renewals], most=3)
    old = " to ".join(words.count(end) for end in dict.fromkeys((ends[0], ends[-1])))
    return (f"renewed at step {renewed}; " if renewed else "never renewed; ") + f"{old} steps old at the end"


def _stretch_row(run: Run, one: Stretch) -> list[object]:
    lane = one.lane
    ages = [teacher_age(run, lane.name, seed) for seed in run.seeds] if lane.name in run.arms else []
    ends = [age.values[-1] for age in ages if isinstance(age, Series)]
    age = float(np.mean(ends)) if ends else None
    renewals, notes = " ".join(map(str, lane.renewals)), "; ".join(one.notes)
    reached = max(one.reached, lane.start)
    return [lane.name, lane.start, lane.parent, reached, lane.stop, lane.gram_start, renewals, age, notes]


def signs(run: Run, known: Sequence[Field]) -> Grid:
    """Down the signs of health, across the dense measures that they are to know: Spearman's ρ, and a button to look."""
    found, names = signs_of(run), {one.column: one.name for one in known}
    heads = [Head("Sign, without labels", numeric=False)]
    heads += [
        Head(f"ρ with {column.title}", f"on {column.dataset}, {kind}")
        for column in found.against
        for kind in KINDS.values()
    ]
    every = list(dict.fromkeys(sign for own in found.against.values() for sign in own))
    lines, rows = [], []
    for sign in every:
        name = f"{sign.title} on {sign.dataset}"
        cells = [Cell(name, by=name)]
        for column in found.against:
            axes = (names[sign], names[column])
            cells += [_correlation(found, kind, sign, column, axes if kind == INSIDE else None) for kind in KINDS]
            rows += [_correlation_row(found, kind, sign, column) for kind in KINDS]
        lines.append(Line(cells))
    titles = ["sign", "sign_on", "measure", "measure_on", "kind", "rho", "low", "high"]
    return Grid("signs", "Rank correlation", heads, lines, Sheet({name: name for name in titles}, rows))


def _correlation(found: Signs, kind: str, sign: Column, column: Column, axes: tuple[str, str] | None) -> Cell:
    known = found.correlation(kind, sign, column)
    if known is None:
        return Cell(words.NONE, axes=axes)
    said, _, ends = words.correlation(**known).partition(" ")
    return Cell(said, below=ends, by=known["value"], axes=axes)


def _correlation_row(found: Signs, kind: str, sign: Column, column: Column) -> list[object]:
    known = found.correlation(kind, sign, column) or {}
    numbers = [known.get(name) for name in ("value", "low", "high")]
    return [sign.title, sign.dataset, column.title, column.dataset, KINDS[kind], *numbers]


def theirs() -> Grid:
    """The paper's table."""
    first = TABLE[0]
    heads = [Head("Gram teacher", "its input", numeric=False)]
    heads += [Head("Linear ↑", "ImageNet-1k, %"), Head("mIoU ↑", "ADE20k, %"), Head("Depth RMSE ↓", "NYUv2, m")]
    rows = [list(row) for row in TABLE]
    sheet = Sheet({name: name for name in Published._fields}, rows)
    return Grid("theirs", "The paper: 7B model", heads, [_published(row, first) for row in TABLE], sheet)


def _published(row: Published, first: Published) -> Line:
    cells = [Cell(row.teacher, below=row.resolution)]
    for name, digits in {"linear": 1, "miou": 1, "rmse": 3}.items():
        value, base = getattr(row, name), getattr(first, name)
        below = "" if row is first else words.number(value - base, digits, signed=True)
        cells.append(Cell(f"{value:.{digits}f}", below=below, by=value))
    return Line(cells)


def ours(run: Run, compared: Differences) -> Grid:
    """The arms of the run by their Gram teachers; no lines where no arm has one, or no mIoU was measured."""
    arms, shown = rows_of(run)
    heads = [Head("Arm", numeric=False), Head("Gram teacher", "its input", numeric=False)]
    heads += [
        Head(f"{column.title} {words.arrow(column)}", f"{column.dataset}, {words.unit(column)}") for column in shown
    ]
    lines, rows = [], []
    for arm in arms:
        teacher, size = teacher_words(run, arm)
        cells, row = [Cell(arm, by=arm), Cell(teacher, below=size)], list[object]([arm, teacher, size])
        for column in shown:
            value, change = final(run, column, arm), compared.get((column, arm, "steps"))
            text = words.NONE if value is None else words.value(column, value)
            below = words.amount(column, change) if change is not None else ""
            cells.append(Cell(text, below=below, by=None if value is None else value.value))
            row.append(None if value is None else value.value * words.scale(column))
        lines.append(Line(cells, arm))
        rows.append(row)
    titles = ["arm", "teacher", "input", *(f"{column.title} on {column.dataset}" for column in shown)]
    sheet = Sheet({f"f{place}": title for place, title in enumerate(titles)}, rows)
    return Grid("ours", f"This run, differences from {run.baseline}", heads, lines, sheet)
