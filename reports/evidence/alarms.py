"""Alarms replayed over finished runs: when each would have been raised, and whether rightly; see docs/health.md.

An alarm is a sign of health and a level: it is raised as soon as the sign has fallen by that share of its best, the
rule by which training starts the Gram loss (`evals.results.alarm`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from evals.results.alarm import has_fallen, raised
from evals.results.crossed import ALPHA
from reports.estimates import Column
from reports.ranks import FEWEST, PAIR, SIGN, pair
from reports.tracks import Frame, Track

LEVELS = (0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2, 0.3)
FALL = 0.05  # below its peak by this share ends a labelled metric that has fallen
RIGHT, MISSED, WRONG, SILENT = OUTCOMES = ("right", "missed", "wrong", "silent")
ALARM = [*SIGN, "level"]
RUN = ["experiment", "arm", "seed"]


def fallen_since(values: Mapping[int, float], *, share: float) -> int | None:
    """The step from which on a metric, higher better, stays below its peak by that share; None where it ends above."""
    peak = max(values.values(), default=math.nan)
    found = None
    for step in reversed([*values]):
        if not has_fallen(values[step], best=peak, share=share):
            break
        found = step
    return found


def replayed(found: Sequence[Track], *, levels: Sequence[float] = LEVELS, fall: float = FALL) -> Frame:
    """A row for each run, dense metric and alarm: when it was `raised`, since when the metric had `fallen` and how.

    "right": raised before the metric had fallen for good; "missed": it was not. "wrong": raised, but by the end the
    metric has not fallen; "silent": neither. `lead` are the steps between alarm and fall. Runs with fewer than `FEWEST`
    checkpoints of either are left out.
    """
    rows = [row for track in found for row in _replayed(track, levels, fall)]
    return pd.DataFrame(rows, columns=[*PAIR, "level", *RUN, "raised", "fallen", "outcome", "lead"])


def rates(replays: Frame, by: Sequence[str] = (*PAIR, "level")) -> Frame:
    """Of each alarm and metric how many runs ended how, `hits` of those that fall, and `false` alarms of the others.

    Intervals (95 %) are Wilson's with seeds in place of runs: runs of one seed share a trunk, and count as one.
    """
    keys = [replays[name] for name in by]
    flags: Frame = pd.DataFrame({name: (replays["outcome"] == name).astype(int) for name in OUTCOMES})
    found: Frame = flags.groupby(keys, sort=False).sum()
    for name, one, other in (("hits", RIGHT, MISSED), ("false", WRONG, SILENT)):
        runs = found[one] + found[other]
        seeds = replays["seed"].where(replays["outcome"].isin([one, other])).groupby(keys, sort=False).nunique()
        found[name] = found[one] / runs
        bounds = [wilson(share, count) for share, count in zip(found[name], seeds, strict=True)]
        found[f"{name}_low"], found[f"{name}_high"] = np.array(bounds).reshape(-1, 2).T
    found["youden"] = found["hits"] - found["false"]
    found["lead"] = replays["lead"].groupby(keys, sort=False).median()
    return found.reset_index()


def best(found: Frame) -> dict[str, Any] | None:
    """Of rates for one metric the alarm with the highest Youden index, hits less false alarms; None if none is over 0.

    Of equal ones that with fewer false alarms, then the longer median lead, then the first.
    """
    useful = found[found["youden"] > 1e-9]
    if useful.empty:
        return None
    ranked = useful.assign(youden=useful["youden"].round(9), early=-useful["lead"])
    order = ranked.sort_values(["youden", "wrong", "early"], ascending=[False, True, True], kind="stable")
    return found.loc[order.index[0]].to_dict()


def held_out(replays: Frame) -> Frame:
    """What the best alarm, chosen without an experiment, does in that one; replays of one metric, one row a run.

    Where there is one experiment, seeds take their place. Where the others choose none, none is raised. Empty where
    there is nothing to leave out.
    """
    group, parts = left_out(replays), []
    for left in replays[group].unique() if replays[group].nunique() > 1 else ():
        mine = replays[replays[group] == left]
        chosen = best(rates(replays[replays[group] != left]))
        if chosen is not None:
            parts.append(mine[np.logical_and.reduce([mine[name] == chosen[name] for name in ALARM])])
        else:
            runs = mine.drop_duplicates(RUN)
            silent = np.where(runs["fallen"].isna(), SILENT, MISSED)
            parts.append(runs.assign(measure="", level=math.nan, raised=math.nan, outcome=silent, lead=math.nan))
    return pd.concat(parts, ignore_index=True) if parts else replays.iloc[:0]


def left_out(replays: Frame) -> str:
    """What `held_out` leaves out in turn: "experiment", or "seed" where there is one experiment."""
    return "experiment" if replays["experiment"].nunique() > 1 else "seed"


def wilson(share: float, count: float) -> tuple[float, float]:
    """The interval of a share that was seen in `count` trials (95 %; Wilson, JASA 1927); NaN without any.

    `share` x `count` need not be whole, as SciPy wants it: a share of runs counts as one of seeds.
    """
    if count == 0:
        return math.nan, math.nan
    z2 = float(ndtri(1 - ALPHA / 2)) ** 2
    middle = share + z2 / (2 * count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2)))
    return max((middle - half) / (1 + z2 / count), 0.0), min((middle + half) / (1 + z2 / count), 1.0)


def _replayed(track: Track, levels: Sequence[float], fall: float) -> Iterator[dict[str, object]]:
    place = {"experiment": track.experiment, "arm": track.arm, "seed": track.seed}
    metrics = {column: fallen_since(values, share=fall) for column, values in _curves(track, "dense")}
    for sign, values in _curves(track, "health"):
        for level in levels:
            step = raised(values, share=level)
            for metric, fallen in metrics.items():
                steps = {"raised": _known(step), "fallen": _known(fallen)}
                yield pair(sign, metric) | {"level": level} | place | steps | _outcome(step, fallen)


def _curves(track: Track, kind: str) -> Iterator[tuple[Column, dict[int, float]]]:
    for column in track.columns(kind):
        values = track.values[column].dropna().to_dict()
        if len(values) >= FEWEST:
            yield column, {int(step): value for step, value in values.items()}


def _outcome(step: int | None, fallen: int | None) -> dict[str, object]:
    if fallen is None:
        return {"outcome": SILENT if step is None else WRONG, "lead": math.nan}
    if step is None or step >= fallen:
        return {"outcome": MISSED, "lead": math.nan}
    return {"outcome": RIGHT, "lead": fallen - step}


def _known(step: int | None) -> float:
    return math.nan if step is None else step
