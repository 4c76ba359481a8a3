"""Each arm against its own beginning: how far its last evaluation is from the first one on the way to it."""

from __future__ import annotations

from collections.abc import Sequence

from evals.results.table import Row
from reports import words
from reports.compared import Difference, Meeting, Pair, difference_of
from reports.estimates import Column, of_column
from reports.lineage import on_way
from reports.pairing import Checkpoint, Kept, paired
from reports.run_folder import Run


def changes(run: Run, shown: Sequence[Column], arms: Sequence[str]) -> dict[tuple[Column, str], Difference]:
    """How far arms are from where their training began, by the first and the last evaluation; without verdicts.

    Intervals as those of `compare`, each arm's own; `baseline` and `baseline_step` are those of the beginning.
    """
    kept = Kept(run.folder, kind=run.step_kind, evaluations=run.evaluations)
    found: dict[tuple[Column, str], Difference] = {}
    for column in shown:
        rows = of_column(run, column)
        values = {Checkpoint(row.arm, row.seed, row.step): row.value for row in rows}
        ways = {arm: way for arm in arms if (way := _from_start(run, rows, arm))}
        sides = {arm: {seed: (one.arm, one.baseline) for seed, one in way.items()} for arm, way in ways.items()}
        crossed = paired(kept, column, sides)
        for arm, way in ways.items():
            pair = Pair(column, arm, "steps")
            found[column, arm] = difference_of(pair, [*way.values()], values, crossed.get(arm))
    return found


def _from_start(run: Run, rows: list[Row], arm: str) -> dict[int, Meeting]:
    """By seed its last evaluation, if that is the last of all seeds, beside the first one on the way to it."""
    last = max((row.step for row in rows if row.arm == arm), default=0)
    ways = {seed: on_way(run, rows, arm, seed) for seed in run.seeds}
    ends = {
        seed: [Checkpoint(row.arm, row.seed, row.step) for row in (way[-1], way[0])]
        for seed, way in ways.items()
        if way and (way[-1].arm, way[-1].step) == (arm, last) and way[0].step < last
    }
    return {seed: Meeting(last, {end: 1.0}, {start: 1.0}) for seed, (end, start) in ends.items()}


def baseline_change(run: Run) -> str:
    """How far the baseline is from its own start in the leading measures; "" where it was evaluated once."""
    found = changes(run, words.leading(run), [run.baseline])
    said = [words.in_words(run, one, dated=False) for one in found.values()]
    steps = {(one.baseline_step, one.step) for one in found.values()}
    when = "step {} to {}".format(*steps.pop()) if len(steps) == 1 else "first evaluation to last"
    return f"{run.baseline} against its own start, {when}: {'; '.join(said)}" if said else ""


def side(one: Difference) -> str:
    """Whether it ended "better" or "worse" than it began; "" where the interval holds zero, and of signs of health."""
    if not one.excludes_zero or one.column.kind.kind == "health":
        return ""
    return "better" if one.column.direction * one.value > 0 else "worse"


def ends(one: Difference) -> str:
    """The values that a difference lies between: "53.2 → 54.8"."""
    both = (one.baseline, one.baseline + one.value)
    return " → ".join(words.number(end * words.scale(one.column), words.digits(one.column)) for end in both)
