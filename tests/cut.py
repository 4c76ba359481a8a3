"""What ends a training in the midst of its work, as a process that dies there would."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.job import Job


class Cut(Exception):
    """What ends a process in the midst of its work."""


def nothing(job: Job, step: int, folder: Path) -> dict[str, float]:
    """Evaluates nothing."""
    return {}


def dies_at(step: int) -> Callable[[Job, int, Path], dict[str, float]]:
    """An evaluation that raises `Cut` at a step, and evaluates nothing at others."""

    def evaluate(job: Job, now: int, folder: Path) -> dict[str, float]:
        if now == step:
            raise Cut
        return {}

    return evaluate
