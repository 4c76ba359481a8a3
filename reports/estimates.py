"""Rows to numbers: what was measured, and its interval; `reports.compared` tells differences.

The interval of a value is, with several seeds, Student's t over the seeds (95 %), and with one seed that over
evaluation images, which is silent about how much another seed would differ.
A column is one metric of one evaluation under one protocol; values of unlike protocols never meet in a column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import stdtrit

from common.errors import BadInput
from evals.results.crossed import ALPHA
from evals.results.metrics import LEADING, METRICS, Metric, metric_of
from evals.results.table import Row
from reports.lineage import on_way
from reports.run_folder import COLUMN_KEYS, Run

# How titles name an evaluation, where not by its name with a capital; mIoU and boundary AP alone say theirs
EVAL_LABELS = {"knn": "kNN", "logreg": "Logistic", "segmentation": "", "boundaries": ""}


class Unknown(NamedTuple):
    """A metric that `evals.results.metrics.METRICS` does not describe: shown as it is, part of no trade-off."""

    label: str
    higher_is_better: bool = True
    kind: str = ""
    unit: str = ""
    share: bool = False
    ratio: bool = True


def kind_of(metric: str) -> Metric | Unknown:
    try:
        return metric_of(metric)
    except BadInput:
        return Unknown(metric)


def title_of(evaluation: str, metric: str) -> str:
    """A metric of an evaluation as a reader would say it: "kNN top-1", "mIoU", "Depth RMSE"."""
    kind = kind_of(metric)
    label = kind.label.removesuffix(" accuracy") if kind.kind == "global" else kind.label
    told = kind.kind == evaluation or label.startswith(evaluation)  # as "depth RMSE" does
    name = "" if told else EVAL_LABELS.get(evaluation, evaluation.capitalize())
    if name:
        return f"{name} {label}"
    return label if label[1:2].isupper() else label[0].upper() + label[1:]


@dataclass(frozen=True)
class Column:
    """One metric of one evaluation on one data set under one protocol."""

    eval: str
    dataset: str
    split: str
    metric: str
    protocol: str
    protocol_hash: str
    size: int

    @property
    def kind(self) -> Metric | Unknown:
        return kind_of(self.metric)

    @property
    def is_share(self) -> bool:
        """Whether values are shares in 0..1, which are shown as per cent and compared in points."""
        return self.kind.share

    @property
    def direction(self) -> int:
        """1 where higher values are better, -1 where lower ones are."""
        return 1 if self.kind.higher_is_better else -1

    @property
    def version(self) -> str:
        """The protocol's name without the evaluation's, which the title says: "quick-v1" of "knn-quick-v1"."""
        return self.protocol.removeprefix(f"{self.eval}-") or self.protocol

    @property
    def place(self) -> tuple[str, ...]:
        """What an experiment names it by, apart from others of its own: see `Run.headline`."""
        return self.eval, self.dataset, self.split, self.metric, self.protocol_hash

    @property
    def title(self) -> str:
        """As a reader would say it: "kNN top-1", "mIoU", "Depth RMSE"."""
        return title_of(self.eval, self.metric)


@dataclass(frozen=True)
class Estimate:
    """A value, or a difference, with its interval; `over` says what was varied for it ("" = no interval known)."""

    value: float
    low: float
    high: float
    step: int
    seeds: int
    over: Literal["seeds and images", "seeds", "images", ""]

    @property
    def excludes_zero(self) -> bool:
        return bool(self.low > 0 or self.high < 0)


def student_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and the ends of its 95 % interval by Student's t; the ends are NaN for fewer than two values."""
    data = np.asarray(values, dtype=float)
    data = data[np.isfinite(data)]
    if data.size == 0:
        return float("nan"), float("nan"), float("nan")
    mean = float(data.mean())
    if data.size == 1:
        return mean, float("nan"), float("nan")
    quantile = float(stdtrit(data.size - 1, 1 - ALPHA / 2))
    half = quantile * float(data.std(ddof=1)) / np.sqrt(data.size)
    return mean, mean - half, mean + half


def columns(run: Run) -> list[Column]:
    """Every column of the run: metrics as in `METRICS`, evaluations by their first one, equal ones as they were run."""
    found = [Column(**dict(zip(COLUMN_KEYS, key, strict=True))) for key in run.by_column]
    known = list(METRICS)

    def place(column: Column) -> int:
        base = column.metric.partition("@")[0]
        return known.index(base) if base in known else len(known)

    first = {column.eval: min(place(c) for c in found if c.eval == column.eval) for column in found}
    evals = sorted(first, key=lambda name: first[name])

    def order(column: Column) -> tuple:
        return (evals.index(column.eval), column.dataset, place(column), column.metric, column.protocol, column.size)

    return sorted(found, key=order)


def mixed(run: Run) -> list[str]:
    """A sentence for each measure that was taken under more than one protocol."""
    groups: dict[tuple[str, str], list[Column]] = {}
    for column in columns(run):
        groups.setdefault((column.title, column.dataset), []).append(column)
    return [
        f"{title} on {dataset} was measured under {len(group)} protocols; their values stand in separate columns "
        "and may not be compared."
        for (title, dataset), group in groups.items()
        if len(group) > 1
    ]


def of_column(run: Run, column: Column, *, finite: bool = True) -> list[Row]:
    """The rows of one column, by default those that hold a finite value."""
    rows = run.by_column[tuple(getattr(column, key) for key in COLUMN_KEYS)]
    return [row for row in rows if math.isfinite(row.value)] if finite else rows


def summarise(rows: Sequence[Row]) -> Estimate:
    """Rows of one arm at one step, one per seed, to a value with its interval."""
    first = rows[0]
    if len(rows) == 1:
        known = math.isfinite(first.low) and math.isfinite(first.high)
        return Estimate(first.value, first.low, first.high, first.step, 1, "images" if known else "")
    return Estimate(*student_interval([row.value for row in rows]), first.step, len(rows), "seeds")


def trajectory(run: Run, column: Column, lane: str) -> list[Estimate]:
    """The value at each step that all seeds of the lane have, in order; an arm begins with the last before its fork.

    Of steps that some seeds alone have, another mean would come: a dip that no seed has.
    """
    by_step: dict[int, list[Row]] = {}
    for row in (own := _with_fork(run, of_column(run, column), lane)):
        by_step.setdefault(row.step, []).append(row)
    seeds = len({row.seed for row in own})
    return [summarise(by_step[step]) for step in sorted(by_step) if len(by_step[step]) == seeds]


def seed_paths(run: Run, column: Column, lane: str) -> dict[int, dict[int, float]]:
    """For each seed the value by step, beginning with the last point before the fork."""
    own = _with_fork(run, of_column(run, column), lane)
    seeds = sorted({row.seed for row in own if row.arm == lane})
    return {seed: {row.step: row.value for row in own if row.seed == seed} for seed in seeds}


def seed_ways(run: Run, column: Column, lane: str) -> dict[int, dict[int, float]]:
    """For each seed that the lane itself was evaluated with the value by step, on the whole way from step 0."""
    rows = of_column(run, column)
    seeds = [seed for seed in run.seeds if any((row.arm, row.seed) == (lane, seed) for row in rows)]
    return {seed: {row.step: row.value for row in on_way(run, rows, lane, seed)} for seed in seeds}


def _with_fork(run: Run, rows: Sequence[Row], lane: str) -> list[Row]:
    """The lane's rows and, for each seed, the last before them on the way there."""
    found: list[Row] = []
    for seed in sorted({row.seed for row in rows if row.arm == lane}):
        way = on_way(run, rows, lane, seed)
        first = next(place for place, row in enumerate(way) if row.arm == lane)
        found += way[max(first - 1, 0) :]
    return found


def final(run: Run, column: Column, lane: str) -> Estimate | None:
    """The value at the last step that the lane itself was evaluated at; None when it never was."""
    own = [row for row in of_column(run, column) if row.arm == lane]
    last = max((row.step for row in own), default=0)
    return summarise([row for row in own if row.step == last]) if own else None


def primary(run: Run, kind: Literal["global", "dense"], *, metric: str | None = None) -> Column | None:
    """The column that stands for a kind in the headline and the trade-off.

    It is the one that the experiment names, else the widest covered, then the first in reading order.
    """
    wanted = [column for column in columns(run) if column.kind.kind == kind and metric in (None, column.metric)]

    def coverage(column: Column) -> tuple[int, int]:
        rows = of_column(run, column)
        return len({row.arm for row in rows}), len({row.step for row in rows})

    named = (column for column in wanted if column.place in run.headline)
    return next(named, max(wanted, key=coverage, default=None))


def other_dense(run: Run, first: Column | None) -> Column | None:
    """The leading dense measure beside the first one; None where the run has no other."""
    leading = (primary(run, "dense", metric=name) for name in LEADING)
    return next((column for column in leading if column is not None and column != first), None)


def best(estimates: dict[str, Estimate | None], column: Column) -> str | None:
    """The arm with the best value at the latest step reached, if at least two arms got there and no tie stands.

    None for a sign of health: which side of it is better is a belief.
    """
    if column.kind.kind == "health":
        return None
    there = {arm: estimate for arm, estimate in estimates.items() if estimate}
    last = max((estimate.step for estimate in there.values()), default=0)
    values = {arm: estimate.value for arm, estimate in there.items() if estimate.step == last}
    if len(values) < 2:
        return None
    top = max(column.direction * value for value in values.values())
    winners = [arm for arm, value in values.items() if column.direction * value == top]
    return winners[0] if len(winners) == 1 else None
