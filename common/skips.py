"""`skipped.json` in a job's folder: which unreadable images it has skipped, and since which step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from common.bounds import Label, Natural
from common.records import Step, read_record

FILE = "skipped.json"
REMEDY = "restore it or move the folder away"


@dataclass(frozen=True)
class Skip:
    """An image, by its source, its number and its key there, first skipped in the step after `step`, and why."""

    step: Step
    source: Label
    place: Natural
    image: str
    reason: str


@dataclass(frozen=True)
class Skipped:
    """All of them, in the order in which they were found."""

    skipped: list[Skip]


def recorded(folder: Path) -> list[Skip]:
    """What a job's folder says. Raises `BadInput` where it is damaged."""
    path = folder / FILE
    return read_record(path, Skipped, remedy=REMEDY).skipped if path.exists() else []
