"""What a tracker is: a class for one run in it; all that is told it can be told again, and it may fail at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from PIL.Image import Image

Point = tuple[int, Mapping[str, float]]  # a step, and values by name after it
State = Literal["done", "failed", "interrupted"]


def of_training(row: Mapping[str, Any]) -> Point:
    """A line of a training curve as trackers call its values; those that it lacks are left out."""
    return int(row["step"]), {
        f"train/{key}": value for key, value in row.items() if key != "step" and value is not None
    }


@dataclass(frozen=True)
class Run:
    """A run in a tracker: the experiment that it belongs to, its name in it, and the folder for the tracker's files.

    id: 16 hexadecimal digits; who begins a run that has this id already goes on with it.
    tags: words by which runs are looked for.
    about: sentences for whoever opens it.
    """

    experiment: str
    name: str
    id: str
    folder: Path
    tags: Mapping[str, str]
    about: str


class Tracker(Protocol):
    """One run in a tracker. Its class takes a `Run`: it begins one, or goes on with it.

    Whatever a method raises is told once; training goes on, and what was not told is told at the next occasion.
    """

    def scalars(self, points: Sequence[Point]) -> None:
        """Curves, in the order of their steps; evaluations of earlier steps may come after them."""
        ...

    def settings(self, plain: Mapping[str, Any]) -> None:
        """The resolved settings, nested, as plain data; once more where they have changed."""
        ...

    def text(self, name: str, text: str) -> None:
        """Prose of several lines."""
        ...

    def picture(self, name: str, step: int, image: Image) -> None:
        """What the state after a step looks like."""
        ...

    def file(self, path: Path) -> None:
        """A document such as the report's PDF; a later one of the same name takes its place."""
        ...

    def close(self, state: State) -> None:
        """Nothing more comes for now."""
        ...
