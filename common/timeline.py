"""What a plan draws: when things happen in the trunk and in each arm, and how every scheduled value moves along."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from common.disk import write_text
from common.records import read_record


@dataclass(frozen=True)
class Lane:
    """A stretch of training, from step `start` to `stop`, and the steps at which something happens in it.

    parent: the lane that it forks from, at its `start`; evaluations, states: the steps after which it is evaluated, and
    its full state is kept; words: whom it learns from, and the Gram loss; gram_start: its first step, which may lie
    before the lane; renewals: those before which the Gram teacher is copied anew; frozen: those whose EMA teacher an
    arm takes as its first Gram teacher, or chooses that from.
    """

    name: str
    parent: str | None
    start: int
    stop: int
    evaluations: Sequence[int]
    states: Sequence[int]
    words: str
    gram_start: int | None
    renewals: Sequence[int]
    frozen: Sequence[int]


@dataclass(frozen=True)
class Curve:
    """A value along the path of one or more arms, their own from step `begin` to `stop`; None where it has none."""

    arms: tuple[str, ...]
    begin: int
    stop: int
    steps: tuple[int, ...]
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Timeline:
    """The plan of an experiment over steps; what forks from a lane stands below it.

    arms: all that the report of the run names, in its order, the baseline first.
    constants: in words, what is the same in every step of every arm; changing: the curves of all else, by title.
    """

    name: str
    question: str
    arms: tuple[str, ...]
    lanes: tuple[Lane, ...]
    constants: tuple[str, ...]
    changing: dict[str, tuple[Curve, ...]]


def write_timeline(path: Path, plan: Timeline) -> None:
    """Replace `plan.json`, by which a report sets what was planned beside what was measured."""
    write_text(path, json.dumps(asdict(plan), default=list) + "\n")


def read_timeline(path: Path) -> Timeline:
    """What `write_timeline` left. Raises `BadInput` where it cannot be read or is damaged."""
    return read_record(path, Timeline, remedy="give the experiment's command once more, which writes it anew")
