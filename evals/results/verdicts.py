"""What can be said of arms against their baseline: better, worse, no worse than a margin, or nothing yet.

A verdict rests on the difference over seeds and images (`crossed`), on a margin, and on how many arms were compared in
the same metric; docs/statistics.md explains each word.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from evals.results.crossed import ALPHA, Crossed
from evals.results.metrics import Metric

Word = Literal["better", "worse", "no worse than the margin", "undecided", "too few seeds"]
POWER = 0.8
MOST_SEEDS = 1000  # more are not counted
NONE = (math.nan, math.nan)  # p-values where no comparison was made
ROUNDING = 1e-6  # of a value: what another order of sums in float32 may change
NO_SPREAD = 1e-12  # of a value: what sums in float64 leave where nothing varies


@dataclass(frozen=True)
class Verdict:
    """A word for one arm in one metric; `margin` in the metric's unit, 0 where there is none.

    `p_different` (two-sided, held against `ALPHA`) and `p_no_worse` (one-sided, held against half of it) are corrected
    over the `comparisons` that were made with the baseline (Holm); NaN where none was: with one seed, or of
    the baseline's own training. `seeds_needed` are the seeds in all that an undecided arm would likely take, infinite
    where no number of them would do; None where there is nothing to estimate.
    Without spread (`has_spread`) over seeds and images nothing tells how far chance could have gone.
    """

    word: Word
    margin: float
    p_different: float
    p_no_worse: float
    comparisons: int
    seeds_needed: float | None = None
    has_spread: bool = True


def verdicts(
    metric: Metric,
    found: Mapping[str, Crossed],
    baselines: Mapping[str, float],
    *,
    margin: float | None = None,
    sides: Mapping[str, tuple[Hashable, Hashable]] | None = None,
) -> dict[str, Verdict]:
    """The verdict of each arm, corrected over all comparisons that were made.

    Args:
        metric: which way is better; a relative one is neither, and has no verdicts.
        found: arm → its difference from the baseline.
        baselines: arm → the baseline's own value beside it.
        margin: in the metric's unit; None takes the metric's own.
        sides: arm → what its own values and the baseline's come from, where that is known: arms of equal sides are one
            comparison, and one whose sides are equal is none.
    """
    if metric.relative:
        return {}
    gains = {arm: _exact(gain(metric, one), baselines[arm]) for arm, one in found.items()}
    margins = {arm: metric.margin_at(baselines[arm]) if margin is None else margin for arm in found}
    compared = {arm: (sides or {}).get(arm, (arm, None)) for arm in found}
    made = {compared[arm]: arm for arm, one in gains.items() if one.seeds > 1 and compared[arm][0] != compared[arm][1]}
    different = holm([_different(gains[arm], ROUNDING * abs(baselines[arm])) for arm in made.values()])
    no_worse = holm([_above(gains[arm], -margins[arm]) if margins[arm] else 1.0 for arm in made.values()])
    p = dict(zip(made, zip(different, no_worse, strict=True), strict=True))
    return {
        arm: _verdict(one, Verdict("undecided", margins[arm], *p.get(compared[arm], NONE), comparisons=len(made)))
        for arm, one in gains.items()
    }


def gain(metric: Metric, difference: Crossed) -> Crossed:
    """The difference with its sign turned where lower is better, so that more is better."""
    if metric.higher_is_better:
        return difference
    return replace(difference, value=-difference.value, low=-difference.high, high=-difference.low)


def _exact(gain: Crossed, baseline: float) -> Crossed:
    """With no spread where it is rounding alone, as a straight line between equal values leaves it."""
    limit = (NO_SPREAD * max(abs(baseline), abs(gain.value))) ** 2
    return replace(gain, seed_variance=0.0, image_variance=0.0) if gain.variance(gain.seeds) <= limit else gain


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for how many there are (Holm 1979)."""
    values = np.asarray(p, float)
    order = np.argsort(values)
    steps = values[order] * np.arange(len(order), 0, -1)
    values[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return values.tolist()


def seeds_needed(gain: Crossed, *, margin: float, comparisons: int) -> float:
    """The fewest seeds in all with which an arm would be decided in 4 of 5 repetitions; infinite where none suffice.

    Taken for granted: the true difference is the one that was seen, variances are as estimated, and the arm is held to
    the strictest level of Holm's. More than `MOST_SEEDS` gives the next number.
    """
    counts = np.arange(gain.seeds + 1, MOST_SEEDS + 2, dtype=float)
    tail = 1 - ALPHA / 2 / comparisons
    reach = max(abs(gain.value), gain.value + margin if margin else 0.0)
    limit = (_quantile(math.inf, tail) + _quantile(math.inf, POWER)) * math.sqrt(gain.image_variance)
    if reach <= limit:
        return math.inf
    freedom = gain.freedom(counts)
    needed = (_quantile(freedom, tail) + _quantile(freedom, POWER)) * np.sqrt(gain.variance(counts))
    enough = counts[needed < reach]
    return float(enough[0]) if len(enough) else float(MOST_SEEDS + 1)


def _quantile(freedom: float | np.ndarray, share: float) -> np.ndarray:
    return stdtrit(np.minimum(freedom, 1e12), share)


def _different(gain: Crossed, rounding: float) -> float:
    """Two-sided p of no difference; what rounding may explain is none."""
    if abs(gain.value) <= rounding:
        return 1.0
    return min(2 * _above(replace(gain, value=abs(gain.value)), 0.0), 1.0)


def _above(gain: Crossed, null: float) -> float:
    """As `Crossed.above`; 1 where no spread tells of chance, for the comparison counts with the others all the same."""
    p = gain.above(null)
    return 1.0 if math.isnan(p) else p


def _verdict(gain: Crossed, blank: Verdict) -> Verdict:
    if gain.seeds < 2:
        return replace(blank, word="too few seeds")
    if math.isnan(blank.p_different):  # the baseline's own training
        return blank
    if gain.images < 2 or math.isnan(gain.low) or gain.variance(gain.seeds) == 0:
        return replace(blank, has_spread=False)
    if blank.p_different < ALPHA:
        return replace(blank, word="better" if gain.value > 0 else "worse")
    if blank.p_no_worse < ALPHA / 2:
        return replace(blank, word="no worse than the margin")
    return replace(blank, seeds_needed=seeds_needed(gain, margin=blank.margin, comparisons=blank.comparisons))
