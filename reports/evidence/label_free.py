"""What a page can be filled with on label-free measures: whether they rank as labels do, which alarms were right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from common.errors import BadInput
from evals.results.crossed import ALPHA
from evals.results.metrics import LEADING, arrow
from reports import words
from reports.estimates import kind_of, title_of
from reports.evidence.alarms import FALL, OUTCOMES, RUN, best, held_out, left_out, rates, replayed
from reports.evidence.asked import sections
from reports.evidence.filled import Filled, plural, table
from reports.evidence.rank_map import names, rank_map
from reports.evidence.stored import Shelf
from reports.ranks import FEWEST, KINDS, METRIC, SIGN, correlations
from reports.tracks import Frame, Track, tracks

METRICS, SINCE, SHARE = "metrics:", "since:", "fall:"
BRACKETS = "brackets: 95 % intervals in which the runs of a seed count as one"
USUAL = 0.05  # the level that is shown where no level is best, one of `LEVELS`: that of `gram.alarm_drop`


class Wanted(NamedTuple):
    """The tracks of all experiments that a block names, and the labelled metrics; none stands for the leading ones."""

    experiments: list[str]
    tracks: list[Track]
    metrics: list[str]
    since: int
    fall: float

    @property
    def listed(self) -> str:
        return " ".join(self.experiments)

    def of(self, found: Frame) -> Frame:
        """The rows of the metrics that are wanted. Raises BadInput where there are none of one."""
        asked = self.metrics or [name for name in LEADING if (found["metric"] == name).any()]
        kept = np.zeros(len(found), dtype=bool)
        for word in asked:
            *before, metric = word.split("/")
            told = [found[["eval", "dataset"]].eq(part).any(axis=1) for part in before]
            same = np.logical_and.reduce([found["metric"] == metric, *told])
            if not same.any():
                known = ", ".join(dict.fromkeys(f"{row.eval}/{row.metric}" for row in found.itertuples())) or "none"
                raise BadInput(f"got metric {word}: want one that was measured beside signs of health; known: {known}")
            kept |= same
        return found[kept]


def ranks(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT... [metrics: METRIC...] [since: STEP]`: correlations with each metric, and a map of all of them."""
    got = wanted(shelf, given)
    every = correlations(got.tracks)
    found = got.of(every)
    if found.empty:
        raise BadInput(f"got {got.listed}: want runs with signs of health at {FEWEST} checkpoints, or of several arms")
    rows, metrics, signs = [], names(found, METRIC), names(found, SIGN)
    for metric, group in found.groupby(METRIC, sort=False):
        for place, (sign, kinds) in enumerate(group.groupby(SIGN, sort=False)):
            by_kind = {row.kind: row for row in kinds.itertuples()}
            first = "" if place else _arrow(metric[1], metrics[metric])
            own = _arrow(sign[0], signs[sign])
            rows.append([first, own, *(_correlation(by_kind.get(kind)) for kind in KINDS)])
    name = f"{got.experiments[0]}/{'-'.join(['ranks', *got.experiments[1:]])}.png"
    head = ["metric", "label-free measure", *KINDS]
    said = "Rank correlations of label-free measures with labelled metrics, inside runs and across arms"
    return Filled(f"{table(head, rows)}\n\n{_rests_on(got, found)}\n\n![{said}]({name})", {name: rank_map(every)})


def alarms(shelf: Shelf, given: Sequence[str]) -> Filled:
    """`EXPERIMENT... [metrics: METRIC...] [fall: SHARE] [since: STEP]`: of each measure the best alarm, replayed."""
    got = wanted(shelf, given)
    every = replayed(got.tracks, fall=got.fall)
    if every.empty:
        raise BadInput(f"got {got.listed}: want runs with signs of health and dense metrics at {FEWEST} steps")
    replays = got.of(every)
    metrics = names(replays, METRIC)
    parts = [_alarms(group, metrics[metric], got.fall) for metric, group in replays.groupby(METRIC, sort=False)]
    return Filled("\n\n".join(parts))


def wanted(shelf: Shelf, given: Sequence[str]) -> Wanted:
    """What a block's words ask for. Raises BadInput at what is missing or no number."""
    parts = sections(given, (METRICS, SINCE, SHARE))
    if not parts[""]:
        raise BadInput("got no experiment: want one or more; known: " + ", ".join(shelf.names))
    since, fall = _number(parts, SINCE, 1, most=math.inf), _number(parts, SHARE, FALL, most=1)
    found = [track for name in parts[""] for track in tracks(shelf.experiment(name).run, since=int(since))]
    return Wanted(parts[""], found, parts[METRICS], int(since), fall)


def _number(parts: dict[str, list[str]], name: str, usual: float, *, most: float) -> float:
    if not parts[name]:
        return usual
    try:
        (value,) = map(float, parts[name])
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and 0 <= value <= most):
        raise BadInput(f"got {name} {' '.join(parts[name])}: want one number{' up to 1' if most == 1 else ''}")
    return value


def _correlation(row: Any) -> str:
    """ "+0.94 [+0.81, +1.00]", in bold where the interval leaves out 0; "+0.94" alone without one."""
    if row is None:
        return words.NONE
    value = words.number(row.value, 2, signed=True)
    if math.isnan(row.low):
        return value
    ends = f"[{words.number(row.low, 2, signed=True)},{words.JOIN}{words.number(row.high, 2, signed=True)}]"
    return f"**{value}** {ends}" if row.low > 0 or row.high < 0 else f"{value} {ends}"


def _rests_on(got: Wanted, found: Frame) -> str:
    seeds = len({track.seed for track in got.tracks})
    bounds = "one seed, so no interval" if seeds == 1 else "brackets: 95 % intervals over seeds, bold without 0 in them"
    if seeds > 1 and found["low"].isna().any():
        bounds += ", none where all seeds give one number"
    intervals = int(found["low"].notna().sum())
    chance = round(ALPHA * intervals)
    luck = f" Of {intervals} intervals about {chance} would leave out 0 by chance." if chance else ""
    return (
        "Spearman's rank correlation by the better side of both: +1 ranks as the metric does. "
        f"{plural(len(got.tracks), 'run')} of {plural(seeds, 'seed')}, from step {got.since} on; {bounds}.{luck}"
    )


def _alarms(replays: Frame, title: str, fall: float) -> str:
    """A table of the best alarm of each sign for one metric, and what the best of all does where it was not chosen."""
    runs, signs = replays.drop_duplicates(RUN), names(replays, SIGN)
    fell = runs["fallen"].notna()
    told = f"**{title}** ends at least {100 * fall:g} % below its best in {fell.sum()} of {len(runs)} runs"
    rows = []
    for sign, group in rates(replays).groupby(SIGN, sort=False):
        row = best(group) or group[group["level"] == USUAL].iloc[0].to_dict()
        rows.append([_arrow(sign[0], signs[sign]), *_cells(row)])
    head = ["alarm", "level, %", *OUTCOMES, "hits, %", "false alarms, %", "lead, steps"]
    seeds = f"seeds: {runs[fell]['seed'].nunique()} of {runs['seed'].nunique()}"
    levels = f"Of each measure the level with most hits less false alarms, {100 * USUAL:g} % where none has more hits"
    return f"{told} ({seeds}). {_recommended(replays)}\n\n{table(head, rows)}\n\n{levels}; {BRACKETS}."


def _cells(row: dict[str, Any]) -> list[str]:
    counts = [str(row[name]) for name in OUTCOMES]
    lead = words.NONE if math.isnan(row["lead"]) else words.count(round(row["lead"]))
    return [f"{100 * row['level']:g}", *counts, _share(row, "hits"), _share(row, "false"), lead]


def _share(row: dict[str, Any], name: str) -> str:
    """ "80 [38, 96]" """
    value, low, high = (words.number(100 * row[f"{name}{end}"], 0) for end in ("", "_low", "_high"))
    return words.NONE if math.isnan(row[name]) else f"{value} [{low},{words.JOIN}{high}]"


def _recommended(replays: Frame) -> str:
    """The best alarm of all, and what it does where it was not chosen."""
    fell = replays["fallen"].notna()
    if not fell.any() or fell.all():
        lack = "no run falls" if not fell.any() else "every run falls"
        return f"No alarm can be recommended: {lack}, and it takes runs of both kinds to tell a right one from a wrong."
    chosen = best(rates(replays))
    if chosen is None:
        return "None is raised more often in runs that fall than in the others."
    said = f"Best of all: {title_of('health', chosen['measure'])} at {100 * chosen['level']:g} %."
    out = held_out(replays)
    if out.empty:
        return f"{said} It was chosen on the runs that it is counted on, and there is one seed: nothing confirms it."
    (row,) = rates(out, ["metric"]).to_dict("records")
    right, missed, wrong, silent = (row[outcome] for outcome in OUTCOMES)
    left = left_out(replays)
    without = ", ".join(str(one) for one in out[out["measure"] == ""][left].unique())
    none = f" Without {left} {without} the others recommend none, so that none is raised there." if without else ""
    return (
        f"{said} Chosen without each {left} in turn and judged on it, the best alarm is right in {right} of "
        f"{right + missed} runs that fall (hits {_share(row, 'hits')} %) and wrong in {wrong} of "
        f"{wrong + silent} others (false alarms {_share(row, 'false')} %).{none}"
    )


def _arrow(metric: str, name: str) -> str:
    """The name with the side that is better, or taken to be healthy."""
    return f"{name} {arrow(higher=kind_of(metric).higher_is_better)}"
