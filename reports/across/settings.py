"""The settings in which experiments differ: of their baselines, of arms of one name, of evaluations and machines."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from reports.across.sides import Side
from reports.lane_settings import FORK, lane_settings, lookup
from reports.provenance import shown
from reports.run_folder import Run
from reports.words import NONE

Kind = Literal["training", "evaluations", "machine and code"]
ASIDE = {"name", "question", "source", "expected", "cost", "sweep", "largest_grid"}  # what trains and judges nothing
ASIDE |= {"arms", "baseline", "seeds", "steps"}  # and what is told as the run itself has it
FACTS = ("arms", "baseline", "seeds")  # of an experiment, which are no settings of its training
EVALUATIONS = {"evals", "margins", "headline"}
MACHINE = {"runtime", "launcher", "device"}
CODE = ("gramlab", "git", "torch", "timm", "numpy", "mmsegmentation", "python", "platform")
CODE += ("device", "cpu", "cores", "threads", "precision")


class Absent:
    """In place of a setting that an experiment has not: another version wrote it, or it is of other data."""


class Setting(NamedTuple):
    """A setting, or a fact, that is not the same in all experiments: what each of them has there, in their order."""

    kind: Kind
    key: str
    values: tuple[Any, ...]

    @property
    def written(self) -> list[str]:
        """As for reading: of a group of settings only what is said there."""
        return [NONE if value is Absent else shown(_said(value)) for value in self.values]


def _said(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    return {key: _said(one) for key, one in value.items() if one not in (None, False, "", [], {})}


def differing(every: Sequence[Side]) -> list[Setting]:
    """Of training first: facts, the baselines' settings, those of arms of one name; then of the rest."""
    runs = [side.run for side in every]
    own = [_of_baseline(run) for run in runs]
    found = [*_facts(runs)]
    baselines = [Setting(_kind(key), key, values) for key, values in _unequal(own)]
    found += [one for one in baselines if one.kind == "training"]
    found += _of_arms(runs, {(one.key, *map(repr, one.values)) for one in baselines})
    found += [one for one in baselines if one.kind != "training"]
    return found + [
        Setting("machine and code", key, values)
        for key in CODE
        if not _equal(values := tuple(run.environment.get(key, Absent) for run in runs))
    ]


def _facts(runs: Sequence[Run]) -> Iterator[Setting]:
    for key in (*FACTS, "steps"):
        values = tuple(getattr(run, key) for run in runs)
        if not _equal(values):
            yield Setting("training", key, values)


def _of_baseline(run: Run) -> dict[str, Any]:
    """All that the baseline is trained and judged with."""
    config = {key: copy.deepcopy(value) for key, value in run.config.items() if key not in ASIDE}
    for dotted, value in lane_settings(run)[run.baseline].items():
        *above, last = dotted.split(".")
        place: Any = config
        for part in above:
            place = place.setdefault(part, {}) if isinstance(place, dict) else None
        if isinstance(place, dict):
            place[last] = value
    return config


def _of_arms(runs: Sequence[Run], told: set[tuple[str, ...]]) -> Iterator[Setting]:
    """Of arms that several experiments have; what all of them have from their baselines is `told` already."""
    names = dict.fromkeys(arm for run in runs for arm in run.arms if sum(arm in other.arms for other in runs) > 1)
    lanes = [lane_settings(run) for run in runs]
    for arm in names:
        keys = sorted({key for own in lanes for key in own.get(arm, {})} | {*FORK})
        for key in keys:
            values = tuple(_of_arm(run, own, arm, key) for run, own in zip(runs, lanes, strict=True))
            there = [value for run, value in zip(runs, values, strict=True) if arm in run.arms]
            if not _equal(there) and (key, *map(repr, values)) not in told:
                yield Setting("training", f"{arm}: {key}", values)


def _of_arm(run: Run, lanes: Mapping[str, Mapping[str, Any]], arm: str, key: str) -> Any:
    if arm not in run.arms:
        return Absent
    if key in FORK:
        return run.overrides.get(arm, {}).get(key, Absent)
    return lanes[arm][key] if key in lanes[arm] else lookup(run.config, key, absent=Absent)


def _unequal(nodes: Sequence[Any], above: str = "") -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Dotted keys at which the experiments differ, as far down as all of them have settings there."""
    if not all(isinstance(node, Mapping) for node in nodes):
        if not _equal(nodes):
            yield above, tuple(nodes)
        return
    for key in dict.fromkeys(key for node in nodes for key in node):
        yield from _unequal([node.get(key, Absent) for node in nodes], f"{above}.{key}" if above else key)


def _equal(values: Sequence[Any]) -> bool:
    return all(value == values[0] for value in values)


def _kind(key: str) -> Kind:
    section = key.partition(".")[0]
    if section in EVALUATIONS:
        return "evaluations"
    return "machine and code" if section in MACHINE else "training"
