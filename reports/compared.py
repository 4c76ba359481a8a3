"""Arms against the baseline, at equal steps and at equal compute: differences, intervals, verdicts."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np

from common.records import EQUAL_COMPUTE
from evals.results.crossed import Crossed
from evals.results.metrics import Metric
from evals.results.table import Row
from evals.results.verdicts import Verdict, verdicts
from reports.estimates import Column, Estimate, columns, of_column, student_interval
from reports.lineage import Measure, on_way, spent
from reports.pairing import Checkpoint, Kept, Mix, Sides, paired
from reports.run_folder import Run

Where = Measure | Literal["ends"]  # both have used equally much, or one goes on from the other's end

PLACES: tuple[Where, ...] = (*get_args(Measure), "ends")
IN_TURN: tuple[Where, ...] = ("steps", "flops", "images", "seconds", "ends")  # what an arm is first compared at


@dataclass(frozen=True)
class Difference(Estimate):
    """Arm minus baseline in one column, where both have used as much of `measure`: `budget`, the mean over seeds.

    At "ends" each is at its own last step, and `budget` is the arm's. `baseline` is the baseline's value there, at
    `baseline_step`; the arm's own is `step`, both rounded. `verdict` is None where the metric is neither good nor bad,
    or no outcomes of images were kept.
    """

    column: Column
    arm: str
    measure: Where
    budget: float
    baseline: float
    baseline_step: int
    verdict: Verdict | None = None

    @property
    def is_shown(self) -> bool:
        """Whether it is more than chance: by its verdict; with one seed, by its interval over images alone."""
        if self.verdict is None or self.seeds == 1:
            return self.excludes_zero
        return self.verdict.word in ("better", "worse")


@dataclass(frozen=True)
class Meeting:
    """Where arm and baseline with one seed have used equally much, and what their values there are made of."""

    budget: float
    arm: Mix
    baseline: Mix


class Pair(NamedTuple):
    """What is compared: an arm with the baseline in a column, where both have used as much of something."""

    column: Column
    arm: str
    measure: Where


Differences = dict[tuple[Column, str, Where], Difference]
_Key = tuple[Where, str]  # what is equal, and the arm


def compare(run: Run, *, at: Sequence[Where] = PLACES) -> Differences:
    """Every difference that the tables give, by column, arm and what is equal; computed once, for it takes its time."""
    kept = Kept(run.folder, kind=run.step_kind, evaluations=run.evaluations)
    return {
        (column, arm, measure): one
        for column in columns(run)
        for (measure, arm), one in _of_column(run, column, at, kept).items()
    }


def foremost(run: Run, compared: Differences, column: Column, arm: str) -> Difference | None:
    """The difference at equal steps; of an arm without a step in common with the baseline, or trained to equal compute,
    that at equal FLOPs, or else images, or seconds; where one of them goes on from the other's end, that of their ends.
    """
    is_equal = run.overrides.get(arm, {}).get("steps") == EQUAL_COMPUTE
    in_turn = (*IN_TURN[1:], "steps") if is_equal else IN_TURN
    return next((one for measure in in_turn if (one := compared.get((column, arm, measure)))), None)


def foremost_of(run: Run, compared: Differences, column: Column) -> list[Difference]:
    """Those of a column's arms."""
    return [one for arm in run.others if (one := foremost(run, compared, column, arm))]


def _of_column(run: Run, column: Column, at: Sequence[Where], kept: Kept) -> dict[_Key, Difference]:
    """All of them at once, since most checkpoints count at more than one place."""
    rows = of_column(run, column)
    meetings: dict[_Key, dict[int, Meeting]] = {
        (measure, arm): met for measure in at for arm in run.others if (met := _meetings(run, rows, arm, measure))
    }
    sides = {key: {seed: (one.arm, one.baseline) for seed, one in met.items()} for key, met in meetings.items()}
    crossed = paired(kept, column, sides)
    values = {Checkpoint(row.arm, row.seed, row.step): row.value for row in rows}
    found: dict[_Key, Difference] = {}
    for measure in at:
        family: dict[str, _Key] = {arm: (measure, arm) for arm in run.others if (measure, arm) in meetings}
        differences = {
            arm: difference_of(Pair(column, arm, measure), [*meetings[key].values()], values, crossed.get(key))
            for arm, key in family.items()
        }
        known = {arm: crossed[key] for arm, key in family.items() if key in crossed}
        judged = _judged(run, differences, known, {arm: sides[key] for arm, key in family.items()})
        found |= {family[arm]: one for arm, one in judged.items()}
    return found


def difference_of(
    pair: Pair, meetings: Sequence[Meeting], values: Mapping[Checkpoint, float], crossed: Crossed | None
) -> Difference:
    """From resampled images where their outcomes were kept, else from the seeds' values alone."""
    mine, base = (np.array([_mixed(values, mix) for mix in side]) for side in _turned(meetings))
    if crossed is not None:
        value, low, high = crossed.value, crossed.low, crossed.high
        over = "images" if len(meetings) == 1 else "seeds and images"
    else:
        value, low, high = student_interval((mine - base).tolist())
        over = "seeds" if len(meetings) > 1 else ""
    if not math.isfinite(low):
        over = ""
    arm_step, baseline_step = (
        round(float(np.mean([sum(place.step * share for place, share in mix.items()) for mix in side])))
        for side in _turned(meetings)
    )
    return Difference(
        value, low, high, arm_step, len(meetings), over, **pair._asdict(), baseline=float(base.mean()),
        budget=float(np.mean([one.budget for one in meetings])), baseline_step=baseline_step,
    )  # fmt: skip


def _turned(meetings: Sequence[Meeting]) -> tuple[list[Mix], list[Mix]]:
    return [one.arm for one in meetings], [one.baseline for one in meetings]


def _mixed(values: Mapping[Checkpoint, float], mix: Mix) -> float:
    return sum(values[place] * share for place, share in mix.items())


def _sources(run: Run, sides: Sides) -> tuple[Hashable, Hashable]:
    """What the values of arm and baseline come from: the same for lanes that are one training under two names."""

    def source(mix: Mix) -> Hashable:
        return frozenset((run.part(at.lane, at.seed).segment or at, at.step, share) for at, share in mix.items())

    return tuple(source(mine) for mine, _ in sides.values()), tuple(source(base) for _, base in sides.values())


def _judged(
    run: Run, found: Mapping[str, Difference], crossed: Mapping[str, Crossed], sides: Mapping[str, Sides]
) -> dict[str, Difference]:
    """With verdicts where the metric has a better side: the arms of a column are one family."""
    column = next((one.column for one in found.values()), None)
    if column is None or not isinstance(column.kind, Metric):
        return dict(found)
    baselines = {arm: found[arm].baseline for arm in crossed}
    margin = run.margins.get(column.metric, run.margins.get(column.metric.partition("@")[0]))
    sources = {arm: _sources(run, sides[arm]) for arm in crossed}
    said = verdicts(column.kind, crossed, baselines, margin=margin, sides=sources)
    return {arm: replace(one, verdict=said.get(arm)) for arm, one in found.items()}


def _meetings(run: Run, rows: list[Row], arm: str, measure: Where) -> dict[int, Meeting]:
    """By seed; only the seeds that are furthest, since another point of training would be another question."""
    if measure == "steps":
        both = [(row.step, row.seed) for row in rows if row.arm == arm and row.step > 0]  # at 0 nothing is trained
        both = [at for at in both if any(row.arm == run.baseline and (row.step, row.seed) == at for row in rows)]
        last = max((step for step, _ in both), default=0)
        return {seed: _exact(run, arm, seed, step) for step, seed in sorted(both) if step == last}
    ends = {
        lane: {row.seed: row.step for row in sorted(rows, key=_step) if row.arm == lane} for lane in (arm, run.baseline)
    }
    seeds = [seed for seed in run.seeds if all(by[seed] == max(by.values()) for by in ends.values() if seed in by)]
    seeds = [seed for seed in seeds if all(seed in by for by in ends.values())]
    meetings = {
        seed: _at_ends(run, rows, arm, seed) if measure == "ends" else _meeting(run, rows, arm, seed, measure)
        for seed in seeds
    }
    return {seed: found for seed, found in meetings.items() if found is not None}


def _step(row: Row) -> int:
    return row.step


def _exact(run: Run, arm: str, seed: int, step: int) -> Meeting:
    return Meeting(step, {Checkpoint(arm, seed, step): 1.0}, {Checkpoint(run.baseline, seed, step): 1.0})


def _meeting(run: Run, rows: list[Row], arm: str, seed: int, measure: Measure) -> Meeting | None:
    """Where the one of the two that used less ends; None where it is unknown what was used, nothing was measured, or
    both are still one."""
    ways = [on_way(run, rows, lane, seed) for lane in (arm, run.baseline)]
    totals = [spent(run, lane, seed, measure) for lane in (arm, run.baseline)]
    known = [
        (line, way)
        for line, way in zip(totals, ways, strict=True)
        if line is not None and way and line.steps[-1] >= way[-1].step
    ]
    if len(known) < 2:
        return None
    budget = min(float(np.interp(way[-1].step, *line)) for line, way in known)
    mine, base = (_between(way, float(np.interp(budget, line.values, line.steps))) for line, way in known)
    return Meeting(budget, mine, base) if budget > 0 and mine and base and mine != base else None


def _at_ends(run: Run, rows: list[Row], arm: str, seed: int) -> Meeting | None:
    """Where one goes on from the last evaluation of the other, so that they have used equally much as one alone."""
    mine, base = (on_way(run, rows, lane, seed) for lane in (arm, run.baseline))
    if not mine or not base or mine[-1] == base[-1] or (base[-1] not in mine and mine[-1] not in base):
        return None
    place, other = (Checkpoint(row.arm, row.seed, row.step) for row in (mine[-1], base[-1]))
    return Meeting(place.step, {place: 1.0}, {other: 1.0})


def _between(way: list[Row], step: float) -> Mix:
    """The evaluations on either side of a step, by how near they are; {} before the first."""
    steps = np.array([row.step for row in way], float)
    after = int(np.searchsorted(steps, step - 1e-6 * steps[-1]))
    place = [Checkpoint(row.arm, row.seed, row.step) for row in way]
    if after == 0 or after == len(way):
        return {place[after]: 1.0} if after == 0 and steps[0] <= step else {}
    share = float(np.clip((step - steps[after - 1]) / (steps[after] - steps[after - 1]), 0, 1))
    return {place[after]: 1.0} if share > 1 - 1e-6 else {place[after - 1]: 1 - share, place[after]: share}
