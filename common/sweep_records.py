"""What the record of a sweep holds: `sweep.json`, as its command writes it and its report reads it back."""

from __future__ import annotations

from typing import Any, Literal, Required

from typing_extensions import TypedDict

from common.bounds import Natural, Whole
from common.records import Finite, Number, Step, record


@record
class Sought(TypedDict, total=False):
    """An objective of a sweep, or the measure that it prunes by: what of the evaluations it is, unless it is hours.

    `direction` is the one that is searched, which need not be the better one; with `fall` it is how far the metric fell
    from its best.
    """

    name: Required[str]
    eval: str
    dataset: str
    metric: str
    label: str
    higher_is_better: Required[bool]
    direction: Literal["minimize", "maximize"]
    fall: bool
    unit: str
    share: bool


Seeds = list[tuple[Whole, Number, Finite | None, Finite | None]]  # seed, value, and its interval over images


@record
class Pruned(TypedDict):
    """Where a trial was pruned: after which step, and what it showed of which measure."""

    step: Step
    by: str
    value: Number


@record
class Tried(TypedDict, total=False):
    """A trial of a sweep, times are seconds since 1970; `shown` are the values that its pruner saw, by step."""

    arm: Required[str]
    same_as: str | None
    state: Required[str]
    params: Required[dict[str, Any]]
    values: dict[str, Seeds]
    shown: dict[str, Number]
    pruned: Pruned | None
    reason: str | None
    began: Finite | None
    ended: Finite | None


@record
class Confirmed(TypedDict, total=False):
    seeds: list[Whole]
    values: dict[str, dict[str, Seeds]]


@record
class Swept(TypedDict, total=False):
    """`sweep.json`: what a sweep searched, its trials, and which of them no other beats."""

    name: str
    question: str
    source: str
    seeds: list[Whole]
    steps: Step
    objectives: list[Sought]
    pruned_by: Sought | None
    sampler: str
    pruner: str
    space: dict[str, dict[str, Any]]
    wanted: Natural
    trials: list[Tried]
    front: list[str]
    importances: dict[str, dict[str, Finite]]
    references: dict[str, dict[str, Seeds]]
    confirmed: Confirmed
