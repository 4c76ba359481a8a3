"""A comparison of experiments for reading in a terminal: settings, results, differences, and what these do not tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

from common.command import columns as aligned
from evals.results.metrics import Metric
from reports import words
from reports.across.changes import Change, Pair, of_arm
from reports.across.settings import FACTS, Setting
from reports.across.sides import Measure, Side
from reports.cautions import few_images
from reports.compared import Difference, Differences
from reports.estimates import Estimate, final
from reports.verdict_words import brief

WIDEST = 36  # letters of a setting
BESIDE, WIDE = 5, 130  # measures beside one another, at most, and letters of a line where they are several
INDENT = "  "


def heading(every: Sequence[Side]) -> list[str]:
    """A line for each experiment, and below it what is missing of it."""
    rows, missing = [], []
    for side in every:
        run = side.run
        version = " ".join(str(run.environment[key]) for key in ("gramlab", "git") if run.environment.get(key))
        rows.append([side.name, f"{len(run.arms)} arms", _seeds(run.seeds), f"{run.steps or '?'} steps", version,
                     str(run.folder)])  # fmt: skip
        missing.append(words.sentence_list(words.briefly(words.incomplete(run)), most=6))
    lines = aligned(rows).split("\n")
    return [part for line, gaps in zip(lines, missing, strict=True) for part in (line, *(f"{INDENT}{x}" for x in gaps))]


def _seeds(seeds: Sequence[int]) -> str:
    listed = ", ".join(map(str, seeds[:6])) + (" …" if len(seeds) > 6 else "")
    return f"seed{'s' if len(seeds) > 1 else ''} {listed}"


def settings(every: Sequence[Side], found: Sequence[Setting]) -> list[str]:
    """The settings that differ, a block for each kind."""
    if not found:
        return ["Settings that differ: none"]
    rows = [["Settings that differ", *(side.name for side in every)]]
    for kind, group in groupby(found, key=lambda setting: setting.kind):
        rows.append([f"of {kind}", *[""] * len(every)])
        rows += [[INDENT + one.key, *(_cut(text) for text in one.written)] for one in group]
    return aligned(rows).split("\n")


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else text[: WIDEST - 2] + " …"


def results(every: Sequence[Side], found: Sequence[Measure]) -> list[str]:
    """Each arm at its last step, measures across."""
    title = "Each arm at its last step: mean over seeds ± half of the 95 % interval (one seed: over images)"
    return _blocks(title, found, lambda group: [_arm(side, arm, group) for side in every for arm in side.run.arms])


def _arm(side: Side, arm: str, group: Sequence[Measure]) -> list[str]:
    values = [final(side.run, m.column, arm) if m in side.measures else None for m in group]
    last = max((value.step for value in values if value), default=0)
    seeds = max((value.seeds for value in values if value), default=0)
    base = f"{arm} (baseline)" if arm == side.run.baseline and len(side.run.arms) > 1 else arm
    cells = [_value(m, value, last) for m, value in zip(group, values, strict=True)]
    return [side.name, base, f"{last}" if seeds else words.NONE, f"{seeds}" if seeds else words.NONE, *cells]


def _value(measure: Measure, value: Estimate | None, last: int) -> str:
    if value is None:
        return words.NONE
    late = f"@{value.step}" if value.step != last else ""
    parts = [words.value(measure.column, value), words.half_width(measure.column, value), late]
    return " ".join(filter(None, parts))


def own_changes(every: Sequence[Side], compared: Mapping[str, Differences], found: Sequence[Measure]) -> list[str]:
    """What the arms of each experiment gain over its baseline, with the verdicts of its report."""
    title = (
        "Each arm minus the baseline of its experiment, paired by seed and image (one seed: by image, and no verdict)"
    )
    lanes = [(side, arm) for side in every for arm in side.run.others]

    def rows(group: Sequence[Measure]) -> list[list[str]]:
        listed = [_own(side, arm, group, compared[side.name]) for side, arm in lanes]
        return [row for row in listed if row]

    return _blocks(title, found, rows) if lanes else []


def _own(side: Side, arm: str, group: Sequence[Measure], compared: Differences) -> list[str]:
    ones = [of_arm(compared, measure, arm) if measure in side.measures else None for measure in group]
    there = [one for one in ones if one]
    if not there:
        return []
    places = "; ".join(sorted({_place(one) for one in there}))
    cells = [_change(measure, one) for measure, one in zip(group, ones, strict=True)]
    return [side.name, f"{arm} − {side.run.baseline}", places, f"{max(one.seeds for one in there)}", *cells]


def _place(one: Difference) -> str:
    """The step, or both of them and what is equal there: "500, 800 (equal FLOPs)"."""
    return f"{one.step}" if one.measure == "steps" else f"{one.step}, {one.baseline_step} ({words.PLACES[one.measure]})"


def _change(measure: Measure, one: Difference | None) -> str:
    if one is None:
        return words.NONE
    return f"{words.difference(measure.column, one)} {brief(one)}".rstrip()


def cross_changes(changes: Sequence[Change], found: Sequence[Measure], first: Side) -> list[str]:
    """What the other experiments gain over the first one."""
    if not changes:
        return [f"Minus {first.name}: no arm of one name, and no baseline, was evaluated at one step in both"]
    title = f"Each arm minus that of {first.name}, at the last step that both have (*: the interval leaves out zero)"
    by_pair: dict[Pair, dict[Measure, Change]] = {}
    for one in changes:
        by_pair.setdefault(one.pair, {})[one.measure] = one

    def rows(group: Sequence[Measure]) -> list[list[str]]:
        return [_cross(pair, ones, group) for pair, ones in by_pair.items() if any(m in ones for m in group)]

    return _blocks(title, [measure for measure in found if any(one.measure == measure for one in changes)], rows)


def _cross(pair: Pair, ones: Mapping[Measure, Change], group: Sequence[Measure]) -> list[str]:
    known = [ones[measure] for measure in group if measure in ones]
    steps = ", ".join(map(str, sorted({one.step for one in known})))
    most = max(known, key=lambda one: one.seeds + one.other_seeds)
    seeds = f"{most.seeds}" if most.seeds == most.other_seeds else f"{most.seeds}, {most.other_seeds}"
    return [pair.side.name, pair.title, steps, seeds, *(_crossed(measure, ones.get(measure)) for measure in group)]


def _crossed(measure: Measure, one: Change | None) -> str:
    if one is None:
        return words.NONE
    if one.how == "same training":
        return one.how
    estimate = Estimate(one.value, one.low, one.high, one.step, one.seeds, "seeds")
    return words.difference(measure.column, estimate) + ("*" if one.excludes_zero else "")


def _blocks(title: str, found: Sequence[Measure], rows: Callable[[Sequence[Measure]], list[list[str]]]) -> list[str]:
    """A table below a title, or several where there are many measures."""
    lines, rest = [title], list(found)
    while rest:
        tables = (_table(rest[:count], rows(rest[:count])) for count in range(min(BESIDE, len(rest)), 0, -1))
        count, table = next((n, one) for one in tables if (n := one.measures) == 1 or one.width <= WIDE)
        lines += [*([""] if len(rest) < len(found) else []), *table.lines]
        rest = rest[count:]
    return lines


class _Table(NamedTuple):
    measures: int
    lines: list[str]

    @property
    def width(self) -> int:
        return max(map(len, self.lines))


def _table(group: Sequence[Measure], rows: Sequence[Sequence[str]]) -> _Table:
    """Aligned, numbers to the right; the experiment's name in the first of its rows alone."""
    head = [["experiment", "arm", "step", "seeds", *map(_title, group)], ["", "", "", "", *map(_below, group)]]
    names = ["", *(row[0] for row in rows)]
    once = [["" if row[0] == above else row[0], *row[1:]] for row, above in zip(rows, names, strict=False)]
    turned = list(zip(*head, *once, strict=True))
    widths = [max(map(len, column)) for column in turned]
    numbers = [[cell.rjust(width) for cell in column] for column, width in list(zip(turned, widths, strict=True))[2:]]
    text = aligned(list(zip(*turned[:2], *numbers, strict=True)))
    return _Table(len(group), [INDENT + line for line in text.split("\n")])


def _title(measure: Measure) -> str:
    return measure.column.title


def _below(measure: Measure) -> str:
    column = measure.column
    known = isinstance(column.kind, Metric)
    unit = " ".join(filter(None, [words.unit(column), words.arrow(column) if known else ""]))
    return ", ".join(filter(None, [column.dataset, unit]))


def protocols(found: Sequence[Measure]) -> str:
    """Under which protocols, on which files, the compared values were measured."""
    told = dict.fromkeys(
        f"{m.column.protocol} #{m.column.protocol_hash} on {m.column.dataset}/{m.column.split} ({m.data}) at "
        f"{m.column.size} px"
        for m in found
    )
    return f"Compared under equal protocols: {'; '.join(told)}"


def cautions(every: Sequence[Side], changes: Sequence[Change], found: Sequence[Setting]) -> list[str]:
    """What may not be concluded, a line each."""
    lines = []
    if sum(one.kind == "training" and one.key not in FACTS for one in found) > 1:
        lines.append("Several settings differ at once: no difference between experiments can be laid to one of them.")
    if lonely := [side.name for side in every if len(side.run.seeds) == 1]:
        lines.append(
            f"One seed ({', '.join(lonely)}): nothing tells what another would give, so differences prove nothing."
        )
    if any(one.how == "unpaired" for one in changes):
        lines.append("Unlike seeds are not paired: their intervals are Welch's, and wider than those of equal seeds.")
    if any(one.how == "paired" for one in changes):
        lines.append(
            "Between experiments equal seeds are paired, images are not: no verdict, and none corrected for many."
        )
    if any(one.how == "same training" for one in changes):
        lines.append("Same training: both experiments hold one training under two names, which tells of no difference.")
    few = {sentence for side in every for sentence in few_images(side.run)}
    return [*lines, *sorted(few)]
