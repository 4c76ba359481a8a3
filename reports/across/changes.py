"""Differences that a comparison of experiments shows: of arms from their own baseline, and from another experiment.

In an experiment arms are paired by seed and image, as in its report. Between experiments the same seeds are paired
(Student's t over their differences), unlike ones are not (Welch's t); images are not paired, so there is no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from common.records import EQUAL_COMPUTE
from evals.results.crossed import ALPHA
from evals.results.table import Row
from reports.across.sides import Measure, Side, only
from reports.compared import Difference, Differences, compare, foremost
from reports.estimates import columns, of_column, student_interval

How = Literal["paired", "unpaired", "same training", "one seed"]


@dataclass(frozen=True)
class Pair:
    """Two arms of two experiments; differences are those of `arm` from `other_arm`."""

    side: Side
    arm: str
    other: Side
    other_arm: str

    @property
    def title(self) -> str:
        return self.arm if self.arm == self.other_arm else f"{self.arm} − {self.other_arm}"


@dataclass(frozen=True)
class Change:
    """The difference of a pair in one measure at the last step that both have; its ends are NaN where none are known.

    how: seeds were paired or not; at "same training" some of them are one training under two names, so that the
    difference tells nothing; of "one seed" nothing can be said.
    """

    pair: Pair
    measure: Measure
    step: int
    seeds: int
    other_seeds: int
    value: float
    low: float
    high: float
    how: How

    @property
    def excludes_zero(self) -> bool:
        return bool(self.low > 0 or self.high < 0)


def within(side: Side, found: Sequence[Measure]) -> Differences:
    """The differences of the arms from their baseline in these measures, each where it is foremost."""
    view = only(side, found)
    compared = compare(view, at=("steps",))
    alike = all((column, arm, "steps") in compared for column in columns(view) for arm in view.others)
    if not alike or any(own.get("steps") == EQUAL_COMPUTE for own in view.overrides.values()):
        compared = compare(view)
    return {key: one for key, one in compared.items() if one is foremost(view, compared, key[0], key[1])}


def of_arm(compared: Differences, measure: Measure, arm: str) -> Difference | None:
    return next((one for (column, name, _), one in compared.items() if (column, name) == (measure.column, arm)), None)


def pairs(every: Sequence[Side]) -> list[Pair]:
    """Arms of the first experiment with those of one name in each other one, and the baselines of both."""
    first, *others = every
    found = []
    for other in others:
        named = [(arm, arm) for arm in first.run.arms if arm in other.run.arms]
        base = (other.run.baseline, first.run.baseline)
        found += [Pair(other, arm, first, partner) for arm, partner in dict.fromkeys([base, *named])]
    return found


def between(every: Sequence[Side], found: Sequence[Measure]) -> list[Change]:
    """Of each pair the difference in each measure that both have, where both were evaluated at one step."""
    changes = [_change(pair, measure) for pair in pairs(every) for measure in found]
    return [change for change in changes if change is not None]


def _change(pair: Pair, measure: Measure) -> Change | None:
    mine, base = _rows(pair.side, pair.arm, measure), _rows(pair.other, pair.other_arm, measure)
    if not (steps := {row.step for row in mine if row.step > 0} & {row.step for row in base}):
        return None
    last = max(steps)
    values, others = ({row.seed: row.value for row in rows if row.step == last} for rows in (mine, base))
    value, low, high, how = _interval(values, others, same=_is_shared(pair, sorted(values), sorted(others)))
    return Change(pair, measure, last, len(values), len(others), value, low, high, how)


def _rows(side: Side, arm: str, measure: Measure) -> list[Row]:
    column = side.measures.get(measure)
    return [row for row in of_column(side.run, column) if row.arm == arm] if column is not None else []


def _interval(values: dict[int, float], others: dict[int, float], *, same: bool) -> tuple[float, float, float, How]:
    """The difference of the means and the ends of its 95 % interval over seeds."""
    mine, base = [values[seed] for seed in sorted(values)], [others[seed] for seed in sorted(others)]
    value = float(np.mean(mine) - np.mean(base))
    if same:
        return value, math.nan, math.nan, "same training"
    if min(len(mine), len(base)) < 2:
        return value, math.nan, math.nan, "one seed"
    if values.keys() == others.keys():
        return *student_interval(np.subtract(mine, base).tolist()), "paired"
    if np.ptp(mine) == np.ptp(base) == 0:  # nothing tells how far chance could have gone
        return value, math.nan, math.nan, "unpaired"
    ends = stats.ttest_ind(mine, base, equal_var=False).confidence_interval(1 - ALPHA)
    return value, float(ends.low), float(ends.high), "unpaired"


def _is_shared(pair: Pair, seeds: Sequence[int], others: Sequence[int]) -> bool:
    """Whether a seed of the one arm is the very training that a seed of the other is."""
    mine = {pair.side.run.part(pair.arm, seed).segment for seed in seeds}
    return bool((mine & {pair.other.run.part(pair.other_arm, seed).segment for seed in others}) - {None})
