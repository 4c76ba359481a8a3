"""What a sweep's record holds, `sweep.json` beside the tables of its trials, read once and checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from common.drawing import shorten, text_width
from common.errors import BadInput
from common.records import read_record
from common.sweep_records import Pruned, Seeds, Sought, Swept, Tried
from evals.results.metrics import side
from reports.estimates import Estimate, kind_of, student_interval, title_of
from reports.words import MINUS, number


@dataclass(frozen=True)
class Goal:
    """An objective, or the measure that trials are pruned by: `name` as it was asked for, `title` as reports say it.

    maximize: the direction that is searched, which need not be the better one.
    fall: it is how far a metric fell from its best; `most` bounds values.
    """

    name: str
    label: str
    higher_is_better: bool
    maximize: bool
    unit: str = ""
    share: bool = False
    fall: bool = False
    most: float = math.inf
    title: str = ""
    dataset: str = ""

    @property
    def scale(self) -> float:
        """Factor from stored to shown values."""
        return 100.0 if self.share else 1.0

    def axis(self, room: float) -> str:
        """As an axis of 8 points is titled within `room` inches, with the direction that is better."""
        rest = f"{f' ({self.shown_unit})' if self.shown_unit else ''}, {self.better}"
        return shorten(self.title, room - text_width(rest, 8), 8) + rest

    @property
    def better(self) -> str:
        """Which way is searched for, and whether it is better."""
        return side(higher=self.maximize, better=self.maximize == self.higher_is_better)

    @property
    def shown_unit(self) -> str:
        """Of shown values."""
        return f"% {self.unit}".rstrip() if self.share else self.unit

    def written(self, value: float) -> str:
        """A value for reading."""
        if self.share:
            return number(value * 100, 1)
        return f"{value:#.3g}".rstrip(".").replace("-", MINUS)


@dataclass(frozen=True)
class Trial:
    """A trial: its settings, and its objectives with intervals where it has them."""

    number: int
    arm: str
    state: str
    params: Mapping[str, Any]
    values: Mapping[str, Estimate]
    shown: Mapping[int, float]
    same_as: str | None = None
    pruned: Pruned | None = None
    reason: str | None = None

    @property
    def label(self) -> str:
        """Its name where room is short: "7" for trial-0007."""
        return str(int(digits)) if (digits := self.arm.rpartition("-")[2]).isdigit() else self.arm


@dataclass(frozen=True)
class Sweep:
    """A sweep as its record tells it."""

    folder: Path
    name: str
    question: str
    seeds: tuple[int, ...]
    goals: tuple[Goal, ...]
    pruned_by: Goal | None
    sampler: str
    pruner: str
    space: Mapping[str, Mapping[str, Any]]
    wanted: int
    trials: tuple[Trial, ...]
    front: tuple[str, ...]
    importances: Mapping[str, Mapping[str, float]]
    references: Mapping[str, Mapping[str, Estimate]]
    confirmed: Mapping[str, Mapping[str, Estimate]]
    fresh_seeds: tuple[int, ...]

    @cached_property
    def complete(self) -> tuple[Trial, ...]:
        """The trials that have every objective, each content once."""
        whole = (trial for trial in self.trials if trial.state == "complete" and trial.same_as is None)
        return tuple(trial for trial in whole if all(goal.name in trial.values for goal in self.goals))

    @cached_property
    def members(self) -> tuple[Trial, ...]:
        """The trials of the front, the best in the first objective first."""
        found = [trial for trial in self.complete if trial.arm in self.front]
        first = self.goals[0]
        return tuple(sorted(found, key=lambda t: t.values[first.name].value, reverse=first.maximize))

    @cached_property
    def by_importance(self) -> list[str]:
        """The settings, the most important over all objectives first."""
        return sorted(self.space, key=lambda name: -sum(of.get(name, 0.0) for of in self.importances.values()))

    def count(self, state: str) -> int:
        """How many trials are in a state, without those that were told it by an equal one."""
        return sum(trial.state == state and trial.same_as is None for trial in self.trials)


def read(folder: Path) -> Sweep:
    """Read the record of `runs/<sweep>`. Raises `BadInput` where there is none, or one that is damaged."""
    path = folder / "sweep.json"
    if not path.is_file():
        raise BadInput(f"got no sweep.json in {folder}: want the folder of a sweep; give runs/<sweep>")
    record: Swept = read_record(path, Swept, remedy="the next trial of the sweep writes it anew")
    if not (goals := _told_apart([*map(_goal, record.get("objectives", ()))])):
        raise BadInput(f"got no objectives in {path}: want what a sweep wrote; run the sweep again")
    confirmed = record.get("confirmed", {})
    seeds, fresh = tuple(record.get("seeds", ())), tuple(confirmed.get("seeds", ()))
    return Sweep(
        folder=folder,
        name=record.get("name", folder.name),
        question=record.get("question", ""),
        seeds=seeds,
        goals=goals,
        pruned_by=_goal(by) if (by := record.get("pruned_by")) else None,
        sampler=record.get("sampler", ""),
        pruner=record.get("pruner", ""),
        space=record.get("space", {}),
        wanted=record.get("wanted", 0),
        trials=tuple(_trial(number, one, goals, seeds) for number, one in enumerate(record.get("trials", ()))),
        front=tuple(record.get("front", ())),
        importances=record.get("importances", {}),
        references={arm: estimates(values, goals, seeds) for arm, values in record.get("references", {}).items()},
        confirmed={arm: estimates(values, goals, fresh) for arm, values in confirmed.get("values", {}).items()},
        fresh_seeds=fresh,
    )


def estimates(values: Mapping[str, Seeds], goals: Sequence[Goal], seeds: Sequence[int]) -> dict[str, Estimate]:
    """Each objective that has a value of every seed: Student's interval, as far as values can lie; of one seed that
    over images."""
    found = {goal: values.get(goal.name, []) for goal in goals}
    whole = {goal: own for goal, own in found.items() if own and len(own) == len(seeds)}
    return {goal.name: _within(_estimate(own), goal) for goal, own in whole.items()}


def _within(one: Estimate, goal: Goal) -> Estimate:
    """Intervals know of no bounds; shares, falls, and what has a unit, hours or metres, are 0 or more."""
    low = 0.0 if goal.share or goal.unit or goal.fall else -math.inf
    return replace(one, low=max(one.low, low), high=min(one.high, goal.most))


def _estimate(seeds: Seeds) -> Estimate:
    if len(seeds) > 1:
        return Estimate(*student_interval([value for _, value, *_ in seeds]), 0, len(seeds), "seeds")
    _, value, low, high = seeds[0]
    nan = float("nan")
    ends = (nan if low is None else low, nan if high is None else high)
    return Estimate(value, *ends, 0, 1, "" if low is None or high is None else "images")


def _goal(sought: Sought) -> Goal:
    name, better, share = sought["name"], sought["higher_is_better"], sought.get("share", False)
    known, fall = "eval" in sought and "metric" in sought, sought.get("fall", False)
    title = title_of(sought.get("eval", ""), sought.get("metric", "")) if known else name
    rises = fall and not kind_of(sought.get("metric", "")).higher_is_better  # an error, of which all may be added
    return Goal(
        name=name,
        label=sought.get("label", name),
        higher_is_better=better,
        maximize=sought.get("direction", "maximize" if better else "minimize") == "maximize",
        unit=sought.get("unit", ""),
        share=share,
        fall=fall,
        most=1.0 if share and not rises else math.inf,
        title=f"{title} {'rise' if rises else 'fall'}" if known and fall else title,
        dataset=sought.get("dataset", ""),
    )


def _told_apart(goals: Sequence[Goal]) -> tuple[Goal, ...]:
    """Those of one title by their data set, too, or else by the names that they were asked for."""
    where = [f"{goal.title} on {goal.dataset}" for goal in goals]
    titles = [goal.title for goal in goals]
    return tuple(
        goal if titles.count(goal.title) == 1 else replace(goal, title=place if where.count(place) == 1 else goal.name)
        for goal, place in zip(goals, where, strict=True)
    )


def _trial(number: int, tried: Tried, goals: Sequence[Goal], seeds: Sequence[int]) -> Trial:
    return Trial(
        number=number,
        arm=tried["arm"],
        state=tried["state"],
        params=tried["params"],
        values=estimates(tried.get("values", {}), goals, seeds),
        shown={int(step): value for step, value in tried.get("shown", {}).items()},
        same_as=tried.get("same_as"),
        pruned=tried.get("pruned"),
        reason=tried.get("reason"),
    )
