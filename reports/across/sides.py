"""Experiments that are set beside one another: their names here, and which of their measures may be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from common.errors import BadInput, listing
from evals.results.metrics import LEADING
from reports.estimates import Column, columns, of_column
from reports.run_folder import Run, read


class Measure(NamedTuple):
    """A column on certain files; values of equal measures may be compared, whatever experiment they are from."""

    column: Column
    data: str


@dataclass(frozen=True, eq=False)
class Side:
    """An experiment, and what it is called here: its name, or where two have the same one, its folder."""

    name: str
    run: Run

    @cached_property
    def measures(self) -> dict[Measure, Column]:
        """What may be compared at all: columns of one known protocol on one known set of files."""
        found = {
            column: {row.data for row in of_column(self.run, column, finite=False)} for column in columns(self.run)
        }
        return {
            Measure(column, next(iter(data))): column
            for column, data in found.items()
            if column.protocol_hash and len(data) == 1
        }


def sides(folders: Sequence[Path]) -> list[Side]:
    """The experiments of these folders, in their order.

    Raises:
        BadInput: fewer than two, one of them twice, or a folder that gives no report.
    """
    if len(folders) < 2:
        raise BadInput(f"got one experiment, {folders[0]}: want two or more; name another beside it")
    places = [folder.absolute() for folder in folders]
    real = [str(folder.resolve()) for folder in folders]
    if twice := next((folder for folder, one in zip(folders, real, strict=True) if real.count(one) > 1), None):
        raise BadInput(f"got {twice} twice: want experiments apart; name another beside it")
    runs = [read(folder) for folder in folders]
    for names in ([run.name for run in runs], [place.name for place in places], [*map(str, places)]):
        if len(set(names)) == len(names):
            return [Side(name, run) for name, run in zip(names, runs, strict=True)]
    raise AssertionError("folders that differ have names that differ")


def shared(every: Sequence[Side]) -> list[Measure]:
    """The measures that two or more experiments have, the leading ones first, in the order of the first of them.

    Raises:
        BadInput: there is none.
    """
    found = [side.measures for side in every]
    ordered = dict.fromkeys(measure for own in found for measure in own)
    common = [measure for measure in ordered if sum(measure in own for own in found) > 1]
    if not common:
        why = unlike(every)[0]
        raise BadInput(
            f"got no measure that two of {', '.join(side.name for side in every)} share (of {why}): want equal "
            "protocol, data set, split, files and size; evaluate both alike"
        )
    return sorted(common, key=lambda measure: not leads(measure))


def leads(measure: Measure) -> bool:
    return measure.column.metric.partition("@")[0] in LEADING


def unlike(every: Sequence[Side]) -> list[str]:
    """A sentence for what two experiments do not share and why, metrics of one evaluation together."""
    found: dict[str, list[str]] = {}
    for one, other in combinations(every, 2):
        for why, title in _unlike(one, other):
            found.setdefault(why, []).append(title)
    return [f"{listing([*dict.fromkeys(titles)])}: {why}" for why, titles in found.items()]


def _unlike(one: Side, other: Side) -> list[tuple[str, str]]:
    """Why, and the title of what; each column once, beside the most similar one of the other experiment."""
    left = [_without(one, other), _without(other, one)]
    told, named = list[tuple[str, str]](), set[Column]()
    for column in left[0]:
        near = _nearest(column, left[1])
        named |= {near} - {None}
        why = _why(one.run, column, other.run, near) if near else f"measured in {one.name}, not in {other.name}"
        told.append((f"{why} ({one.name}, {other.name})" if near else why, column.title))
    lonely = [column for column in left[1] if column not in named and _nearest(column, left[0]) is None]
    return told + [(f"measured in {other.name}, not in {one.name}", column.title) for column in lonely]


def _without(side: Side, other: Side) -> list[Column]:
    """The columns that may not be compared with any of the other's."""
    common = {mine for measure, mine in side.measures.items() if measure in other.measures}
    return [column for column in columns(side.run) if column not in common]


def _nearest(column: Column, among: Sequence[Column]) -> Column | None:
    same = (one for one in among if (one.eval, one.metric) == (column.eval, column.metric))
    return max(same, key=lambda one: _alike(column, one), default=None)


def _alike(one: Column, other: Column) -> int:
    return sum(getattr(one, key) == getattr(other, key) for key in ("dataset", "split", "size", "protocol_hash"))


def _why(run: Run, column: Column, other: Run, near: Column) -> str:
    """In what they differ: "size 64 and 112"; the files where all else is equal."""
    pairs = {
        "data set": (f"{column.dataset}/{column.split}", f"{near.dataset}/{near.split}"),
        "protocol": (_protocol(column), _protocol(near)),
        "size": (f"{column.size} px", f"{near.size} px"),
    }
    said = [f"{name} {mine} and {theirs}" for name, (mine, theirs) in pairs.items() if mine != theirs]
    if not column.protocol_hash:
        return f"nothing tells what protocol {column.protocol} said"
    return ", ".join(said) or f"judged files {_files(run, column)} and {_files(other, near)}"


def _protocol(column: Column) -> str:
    return f"{column.protocol} #{column.protocol_hash}".rstrip(" #")


def _files(run: Run, column: Column) -> str:
    return " or ".join(sorted({row.data for row in of_column(run, column, finite=False)}))


def only(side: Side, found: Sequence[Measure]) -> Run:
    """The run with the rows of these measures alone."""
    wanted = [side.measures[measure] for measure in found if measure in side.measures]
    rows = (row for column in wanted for row in of_column(side.run, column, finite=False))
    return replace(side.run, rows=tuple(rows))
