"""Whether a label-free measure knows: rank correlations of signs of health with labelled metrics (docs/health.md).

Both are taken by their better side, so that +1 always means that the measure ranks as the metric does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, product
from typing import Any

import numpy as np
import pandas as pd

from evals.results.verdicts import NO_SPREAD
from reports.estimates import Column, student_interval
from reports.tracks import LABELLED, Frame, Track

FEWEST = 6  # checkpoints of a run whose order is looked at, so that five changes lie between them
INSIDE, CHANGES, ACROSS = "inside runs", "changes inside runs", "across arms"
KINDS = (INSIDE, CHANGES, ACROSS)
SIGN, METRIC = ["measure", "measured_on"], ["eval", "metric", "dataset"]
PAIR = [*SIGN, *METRIC]
UNIT = ["kind", *PAIR, "experiment", "seed", "arm", "step", "value"]


def rank_correlation(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Spearman's, equal values at the mean of their ranks; NaN where one of both does not vary.

    SciPy's `spearmanr` warns where a side does not vary, as outliers often do not.
    """
    ranks = np.stack([_ranks(np.asarray(side)) for side in (x, y)])
    apart = ranks - ranks.mean(axis=1, keepdims=True)
    spread = (apart**2).sum(axis=1).prod()
    return float(apart[0] @ apart[1] / math.sqrt(spread)) if spread > 0 else math.nan


def _ranks(side: np.ndarray) -> np.ndarray:
    """Of finite values, equal ones at their mean; in a third of the time of `scipy.stats.rankdata`."""
    order = np.sort(side)
    return (np.searchsorted(order, side, "left") + np.searchsorted(order, side, "right") + 1) / 2


def correlations(found: Sequence[Track]) -> Frame:
    """A row for each kind, sign of health and labelled metric: the mean over seeds, and its interval (95 %).

    Runs of one seed share a trunk and their batches, and checkpoints of a run hang together: neither are independent.
    So the correlations of a seed become one number, their mean. NaN where a side never varies.
    """
    table = units(found)
    rows: list[Any] = []
    for key, group in table.groupby(["kind", *PAIR], sort=False):
        seeds = group.groupby("seed")["value"].mean().dropna()
        value, low, high = over_seeds(seeds.to_list())
        what = dict(zip(["kind", *PAIR], key, strict=True))
        counts = {"seeds": len(seeds), "correlations": group["value"].count()}
        rows.append(what | {"value": value, "low": low, "high": high} | counts)
    return pd.DataFrame(rows, columns=["kind", *PAIR, "value", "low", "high", "seeds", "correlations"])


def over_seeds(means: Sequence[float]) -> tuple[float, float, float]:
    """The mean and the ends of its interval (95 %): Student's t over seeds, cut off at ±1.

    One number a cluster, however many hang together in it, is what Ibragimov and Müller (JBES 2010) show to hold from
    few clusters on. NaN ends with one seed, or where all agree to the last digit: nothing tells then how far another
    seed would differ.
    """
    value, low, high = student_interval(means)
    if not high - low > NO_SPREAD:
        return value, math.nan, math.nan
    return value, max(low, -1.0), min(high, 1.0)


def units(found: Sequence[Track]) -> Frame:
    """The single correlations: of a run (`arm`, no step) or over the arms of a seed at a `step` (no arm).

    NaN in those that cannot be had, since a side does not vary.
    """
    rows: list[Any] = [row for kind in (_inside(found), _across(found)) for row in kind]
    return pd.DataFrame(rows, columns=UNIT)


def pair(x: Column, y: Column) -> dict[str, object]:
    """How a table tells a sign of health and a labelled metric: the columns `PAIR`."""
    return {"measure": x.metric, "measured_on": x.dataset, "eval": y.eval, "metric": y.metric, "dataset": y.dataset}


def _inside(found: Iterable[Track]) -> Iterator[dict[str, object]]:
    """Over the checkpoints of each run that has at least `FEWEST` with both; and over the changes between them."""
    for track in found:
        place = {"experiment": track.experiment, "seed": track.seed, "arm": track.arm}
        sides = dict(zip(track.values.columns, track.values.to_numpy().T, strict=True))
        for x, y in _pairs([track]):
            both = _complete(sides[x], sides[y])
            if both.shape[1] >= FEWEST:
                yield pair(x, y) | place | {"kind": INSIDE, "value": rank_correlation(*both)}
                yield pair(x, y) | place | {"kind": CHANGES, "value": rank_correlation(*np.diff(both, axis=1))}


def _across(found: Sequence[Track]) -> Iterator[dict[str, object]]:
    """Over the arms of a seed at each step of their own at which most of them have both, two or more."""
    ordered = sorted(found, key=lambda track: (track.experiment, track.seed))
    for (experiment, seed), group in groupby(ordered, key=lambda track: (track.experiment, track.seed)):
        arms = list(group)
        own: Frame = pd.concat([track.values[track.values.index > track.fork] for track in arms])
        sides = dict(zip(own.columns, own.to_numpy().T, strict=True))
        steps = {step: own.index == step for step in np.unique(own.index)}
        for x, y in _pairs(arms):
            both = {step: _complete(sides[x][here], sides[y][here]) for step, here in steps.items()}
            most = max((here.shape[1] for here in both.values()), default=0)
            for step, here in both.items():
                if here.shape[1] == most > 1:
                    place = {"experiment": experiment, "seed": seed, "step": step}
                    yield pair(x, y) | place | {"kind": ACROSS, "value": rank_correlation(*here)}


def _complete(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What both sides have: [2, n]."""
    both = np.stack([x, y])
    return both[:, np.isfinite(both).all(axis=0)]


def _pairs(found: Sequence[Track]) -> Iterator[tuple[Column, Column]]:
    """Every sign of health with every labelled metric, each once, in their order."""
    signs = dict.fromkeys(column for track in found for column in track.columns("health"))
    metrics = dict.fromkeys(column for track in found for column in track.columns(*LABELLED))
    return product(signs, metrics)
