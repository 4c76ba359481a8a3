"""What a sweep is after: measures of the evaluations, or hours, by the names that users give them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from common.errors import BadInput, nearest
from evals.results.metrics import metric_of
from evals.results.table import Row
from evals.suite import TaskSpec
from evals.tasks.methods import method_of
from harness.sweep_settings import Sweep

HOURS = "hours"
Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Objective:
    """A number of each trial, by the name it was asked for; `column` are the values of `COLUMN` in its result rows."""

    name: str
    label: str
    higher_is_better: bool
    unit: str = ""
    share: bool = False
    column: tuple[str, ...] = ()

    @property
    def direction(self) -> Direction:
        """As Optuna calls it."""
        return "maximize" if self.higher_is_better else "minimize"

    def of(self, rows: Iterable[Row]) -> Row | None:
        """Its row among those of one evaluation."""
        return next((row for row in rows if tuple(getattr(row, key) for key in COLUMN) == self.column), None)


COLUMN = ("eval", "dataset", "split", "metric", "protocol_hash")
SPENT = Objective(HOURS, "hours of training", higher_is_better=False, unit="h")


def objectives(sweep: Sweep, tasks: Mapping[str, TaskSpec]) -> list[Objective]:
    """What the sweep asks for. Raises `BadInput` for what no task yields, and for none at all."""
    if not sweep.objectives:
        raise BadInput(
            f"sweep.objectives is empty: want at least one of {', '.join([*measures(tasks), HOURS])}, or a short form "
            "such as knn.top1"
        )
    found = [SPENT if name == HOURS else measure(name, tasks, where="sweep.objectives") for name in sweep.objectives]
    columns = [objective.column for objective in found]
    if twice := [one.name for one in found if columns.count(one.column) > 1]:
        raise BadInput(f"sweep.objectives: {' and '.join(twice)} are one measure: want it once")
    return found


def pruned_by(sweep: Sweep, tasks: Mapping[str, TaskSpec], asked: Sequence[Objective]) -> Objective | None:
    """The measure that the pruner looks at; None where nothing is pruned."""
    if sweep.pruner.name == "NopPruner":
        return None
    if sweep.pruner.by is not None:
        return measure(sweep.pruner.by, tasks, where="sweep.pruner.by")
    if not (evaluated := [objective for objective in asked if objective.column]):
        raise BadInput(f"sweep.pruner.by: want a measure to prune by, since {HOURS} alone tells nothing on the way")
    return evaluated[0]


def measure(name: str, tasks: Mapping[str, TaskSpec], *, where: str) -> Objective:
    """The measure of a name: its last part a metric, those before it, if any, its task or data set."""
    known = measures(tasks)
    if name in known:
        keys = [name]
    else:
        *places, metric = name.replace("/", ".").split(".")
        keys = [key for key, (task, one) in known.items() if one.column[3] == metric and _at(places, task, one)]
    if len(keys) > 1:
        raise BadInput(f"{where}: {name} may be {' or '.join(keys)}: want one of them")
    if not keys:
        short = [f"{task}.{one.column[3]}" for task, one in known.values()]
        hint = nearest(name, [*known, *short], otherwise=f"want one of {', '.join(known) or 'none: add evals.tasks'}")
        raise BadInput(f"{where}: no task yields {name!r}; {hint}")
    found = known[keys[0]][1]
    if metric_of(found.column[3]).relative:
        raise BadInput(f"{where}: {name} is neither good nor bad: want a measure that has a better side")
    return Objective(**{**vars(found), "name": name})


def measures(tasks: Mapping[str, TaskSpec]) -> dict[str, tuple[str, Objective]]:
    """All that the tasks yield, by `task/dataset/metric`, each with the name of its task in the experiment."""
    found = {}
    for name, task in tasks.items():
        protocol, test = task.protocol, task.test_set
        for metric in method_of(protocol).file.metrics(protocol):
            kind, key = metric_of(metric), f"{protocol.task}/{test.name}/{metric}"
            column = (protocol.task, test.name, test.split, metric, protocol.hash())
            label = f"{kind.label}, {protocol.task} on {test.name}"
            key = key if key not in found else f"{name}/{test.name}/{metric}"  # two protocols of a task
            found[key] = (name, Objective(key, label, kind.higher_is_better, kind.unit, kind.share, column))
    return found


def mean(values: Sequence[float], *, count: int) -> float:
    """Over `count` seeds; NaN where one of them has no value, or one that is not finite: the others are no mean."""
    whole = len(values) == count > 0 and all(map(math.isfinite, values))
    return math.fsum(values) / count if whole else math.nan


def _at(places: Sequence[str], task: str, objective: Objective) -> bool:
    return {*places} <= {task, *objective.column[:2]}
