"""What a sweep is after: measures of the evaluations, or hours, by the names that users give them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal, get_args

from common.errors import BadInput, nearest
from evals.one_task import TaskSpec
from evals.results.metrics import metric_of, side
from evals.results.table import Row
from harness.measures import COLUMN, Measure, measure, measures
from harness.sweep_settings import Sweep

HOURS, FALL = "hours", ".fall"
Direction = Literal["minimize", "maximize"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)


@dataclass(frozen=True)
class Objective(Measure):
    """A number of each trial: a measure, or hours, which has no `column`.

    fall: it is how far the measure fell from the best of its values (`evals.results.falls`), not the last of them.
    asked: the direction that is searched, as Optuna calls it, where it was named; else that which is better.
    """

    fall: bool = False
    asked: Direction | None = None

    @property
    def direction(self) -> Direction:
        """As Optuna calls it."""
        return self.asked or ("maximize" if self.higher_is_better else "minimize")

    @property
    def words(self) -> str:
        """Its name, and which way is sought."""
        higher = self.direction == "maximize"
        return f"{self.name} ({side(higher=higher, better=higher == self.higher_is_better)})"

    @property
    def measures(self) -> tuple[object, ...]:
        """What it is a number of: equal for objectives that are one measure under two names."""
        return self.column, self.fall

    def of(self, rows: Iterable[Row]) -> Row | None:
        """Its row among those of one evaluation."""
        return next((row for row in rows if tuple(getattr(row, key) for key in COLUMN) == self.column), None)


SPENT = Objective(HOURS, "hours of training", higher_is_better=False, unit="h")


def objectives(sweep: Sweep, tasks: Mapping[str, TaskSpec]) -> list[Objective]:
    """What the sweep asks for. Raises `BadInput` for what no task yields, and for none at all."""
    if not sweep.objectives:
        raise BadInput(
            f"sweep.objectives is empty: want at least one of {', '.join([*measures(tasks), HOURS])}, or a short form "
            "such as knn.top1"
        )
    found = [objective(words, tasks, where="sweep.objectives") for words in sweep.objectives]
    known = [one.measures for one in found]
    if twice := [words for words, one in zip(sweep.objectives, known, strict=True) if known.count(one) > 1]:
        raise BadInput(f"sweep.objectives: {' and '.join(twice)} are one measure: want it once")
    return found


def pruned_by(sweep: Sweep, tasks: Mapping[str, TaskSpec], asked: Sequence[Objective]) -> Objective | None:
    """The measure that the pruner looks at; None where nothing is pruned."""
    if sweep.pruner.name == "NopPruner":
        return None
    if sweep.pruner.by is None:
        if not (evaluated := [one for one in asked if one.column and not one.fall]):
            told = " and ".join(one.name for one in asked)
            raise BadInput(f"sweep.pruner.by: want a measure to prune by, since {told} can be told at the end alone")
        return evaluated[0]
    found = objective(sweep.pruner.by, tasks, where="sweep.pruner.by")
    if found.fall or not found.column:
        instead = found.name.removesuffix(FALL) if found.fall else "a measure of the evaluations"
        raise BadInput(f"sweep.pruner.by: {found.name} is known at the end alone: want {instead}")
    return found


def objective(words: str, tasks: Mapping[str, TaskSpec], *, where: str) -> Objective:
    """`hours` or a measure, with `.fall` for how far it fell, each with `maximize` or `minimize` before it, if any.

    Raises `BadInput` for what no task yields.
    """
    first, _, rest = words.partition(" ")
    if rest and first not in DIRECTIONS and get_close_matches(first.lower(), DIRECTIONS, n=1):
        raise BadInput(f"{where}: {words}: {nearest(first.lower(), DIRECTIONS, otherwise='')}")
    asked = next((one for one in DIRECTIONS if rest and one == first), None)
    name = rest.strip() if asked else words
    if name == HOURS:
        return replace(SPENT, asked=asked)
    found = Objective(**vars(measure(name.removesuffix(FALL), tasks, where=where)))
    return replace(_fallen(found) if name.endswith(FALL) else found, name=name, asked=asked)


def _fallen(of: Objective) -> Objective:
    """How far a measure fell: a share of its best value, or where it has no zero for that in its own unit."""
    kind = metric_of(of.column[3])
    unit, share = ("of best", True) if kind.ratio else (of.unit, of.share)
    label = f"{'fall' if kind.higher_is_better else 'rise'} from its best: {of.label}"
    return replace(of, label=label, higher_is_better=False, unit=unit, share=share, fall=True)


def mean(values: Sequence[float], *, count: int) -> float:
    """Over `count` seeds; NaN where one of them has no value, or one that is not finite: the others are no mean."""
    whole = len(values) == count > 0 and all(map(math.isfinite, values))
    return math.fsum(values) / count if whole else math.nan
