"""What an experiment's evaluations yield, by the names that users give them, and what its report begins with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from common.errors import BadInput, nearest
from evals.one_task import TaskSpec
from evals.results.metrics import metric_of
from evals.tasks.methods import method_of

COLUMN = ("eval", "dataset", "split", "metric", "protocol_hash")
HEADLINE = "headline"


@dataclass(frozen=True)
class Measure:
    """A number of each evaluation, by the name it was asked for; `column` are the values of `COLUMN` in its rows."""

    name: str
    label: str
    higher_is_better: bool
    unit: str = ""
    share: bool = False
    column: tuple[str, ...] = ()


def measure(name: str, tasks: Mapping[str, TaskSpec], *, where: str) -> Measure:
    """The measure of a name: its last part a metric, those before it, if any, its task or data set.

    Raises `BadInput` for what no task yields, for what several do, and for what is neither good nor bad.
    """
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
    return replace(found, name=name)


def measures(tasks: Mapping[str, TaskSpec]) -> dict[str, tuple[str, Measure]]:
    """All that the tasks yield, by `task/dataset/metric`, each with the name of its task in the experiment."""
    found = {}
    for name, task in tasks.items():
        protocol, test = task.protocol, task.test_set
        for metric in method_of(protocol).file.metrics(protocol):
            kind, key = metric_of(metric), f"{protocol.task}/{test.name}/{metric}"
            column = (protocol.task, test.name, test.split, metric, protocol.hash())
            label = f"{kind.label}, {protocol.task} on {test.name}"
            key = key if key not in found else f"{name}/{test.name}/{metric}"  # two protocols of a task
            found[key] = (name, Measure(key, label, kind.higher_is_better, kind.unit, kind.share, column))
    return found


def headline(asked: Sequence[str], tasks: Mapping[str, TaskSpec]) -> list[list[str]]:
    """Of each measure that the report begins with the values of `COLUMN` in its result rows.

    Raises `BadInput` for one that no task yields, that is neither dense nor global, or is the second of its kind.
    """
    found: dict[str, Measure] = {}
    for name in asked:
        one = measure(name, tasks, where=HEADLINE)
        kind = metric_of(one.column[3]).kind
        if kind not in ("dense", "global"):
            raise BadInput(f"{HEADLINE}: {name} is a sign of {kind}: want a dense measure or a global one")
        if kind in found:
            raise BadInput(f"{HEADLINE}: {found[kind].name} and {name} are both {kind}: want one dense and one global")
        found[kind] = one
    return [[*one.column] for one in found.values()]


def _at(places: Sequence[str], task: str, one: Measure) -> bool:
    return {*places} <= {task, *one.column[:2]}
