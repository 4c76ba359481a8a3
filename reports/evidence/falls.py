"""How far a measure falls from its peak: over seeds, and not flattered by the noise of the curve.

`evals.results.falls` is the fall of one network, from its own highest value; this is what can be said of an arm.
The highest of many noisy values is higher than the highest true one, so a curve that only trembles seems to fall from
its peak. Hence for each seed the peak's step is that of the mean of the *other* seeds: what chose the step knows
nothing of the noise of the value there. A flat curve then falls by 0 on average; where the true peak is narrow the
chosen step misses it now and then, so that a fall comes out a little too small, never too large.

The interval is Student's t over seeds. Seeds share what chooses the step, and so are not independent where several
steps compete for the peak: the variance is the jackknife's, for which each seed in turn is left out of everything.
Where all seeds agree on the step, that is about the usual s²/S. Of two seeds none can be left out, and s²/S is taken.
Evaluation images are the same all the way: the interval is silent about others. docs/statistics.md tells how often it
holds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from evals.results.crossed import ALPHA
from reports.estimates import Column, seed_ways
from reports.run_folder import Run

Paths = Mapping[int, Mapping[int, float]]  # seed → step → value


@dataclass(frozen=True)
class Fall:
    """From a peak to the last value, above 0 where the measure got worse: a share of the peak, or a plain difference
    where the metric is on no `ratio` scale.

    `low` and `high` bound it (95 %, over seeds), NaN for one seed, whose peak is its own highest value and too high by
    chance. `peak` and `last` are means over the `seeds`, `peak_steps` the first and the last step that was a peak.
    """

    value: float
    low: float
    high: float
    peak: float
    last: float
    peak_steps: tuple[int, int]
    last_step: int
    seeds: int


def falls(run: Run, column: Column, arm: str) -> Fall | None:
    """The fall of an arm from its peak on the way from step 0; None where it was never measured."""
    paths = seed_ways(run, column, arm)
    return fall(paths, higher_is_better=column.kind.higher_is_better, ratio=column.kind.ratio)


def fall(paths: Paths, *, higher_is_better: bool = True, ratio: bool = True) -> Fall | None:
    """From each seed's values by step; only steps that all seeds have count. None where they have none in common."""
    if not paths:
        return None
    steps = np.array(sorted(set.intersection(*(set(path) for path in paths.values()))))
    if not len(steps):
        return None
    values = np.array([[path[step] for step in steps] for path in paths.values()])
    gains, count = values if higher_is_better else -values, len(values)
    peaks = _peaks(gains)
    found, half = _fall(gains, ratio), math.nan
    if count > 1:
        half = float(stdtrit(count - 1, 1 - ALPHA / 2)) * math.sqrt(_variance(gains, ratio))
    reached = values[np.arange(count), peaks]
    return Fall(
        value=found,
        low=found - half,
        high=found + half,
        peak=float(reached.mean()),
        last=float(values[:, -1].mean()),
        peak_steps=(int(steps[peaks.min()]), int(steps[peaks.max()])),
        last_step=int(steps[-1]),
        seeds=count,
    )


def _peaks(gains: np.ndarray) -> np.ndarray:
    """For each seed [S T] the place of the peak of the others' mean, the first of equal ones; of one seed its own."""
    others = gains.sum(axis=0) - gains if len(gains) > 1 else gains
    return others.argmax(axis=1)


def _drops(gains: np.ndarray, ratio: bool) -> tuple[np.ndarray, np.ndarray]:
    """Each seed's way down from its peak [S], and what it is a share of: how high that is, or 1."""
    reached = gains[np.arange(len(gains)), _peaks(gains)]
    return reached - gains[:, -1], np.abs(reached) if ratio else np.ones(len(gains))


def _fall(gains: np.ndarray, ratio: bool) -> float:
    """Of means: a mean of shares would be too low where heights are noisy. NaN where the peaks are 0."""
    drops, heights = _drops(gains, ratio)
    height = float(heights.mean())
    return float(drops.mean()) / height if height else math.nan


def _variance(gains: np.ndarray, ratio: bool) -> float:
    """Of the fall: the jackknife's over three seeds or more; of two seeds that of a ratio of means."""
    count = len(gains)
    if count > 2:
        left = [_fall(np.delete(gains, seed, axis=0), ratio) for seed in range(count)]
        return float((count - 1) * np.var(left))
    drops, heights = _drops(gains, ratio)
    return float(np.var((drops - _fall(gains, ratio) * heights) / heights.mean(), ddof=1)) / count
