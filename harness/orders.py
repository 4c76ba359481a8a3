"""What the first of several processes tells the others to do with it, one order after the other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from harness.eval_settings import Role
from harness.job import Job
from harness.settings import Experiment


@dataclass(frozen=True)
class Beginning:
    """A job that the first process has begun or gone on with, and the tensors of its state, by shape and type.

    anew: whether nothing that was begun before goes on. threads: those of each process.
    """

    job: Job
    tensors: dict[str, tuple[torch.Size, torch.dtype]]
    anew: bool
    threads: int


@dataclass(frozen=True)
class Step:
    """A step that all processes take: of which job, by what was measured until then, and whether components' losses are
    asked for. The tensors of a beginning follow it."""

    name: str
    step: int
    values: dict[int, float]
    tallied: bool
    beginning: Beginning | None


@dataclass(frozen=True)
class Begin:
    """A job of which each process will hold a part: all of them read its newest state, or that of a step.

    anew, threads: as in `Beginning`.
    """

    job: Job
    step: int | None
    anew: bool
    threads: int


@dataclass(frozen=True)
class PassOver:
    """A step of a job that is cut, which nobody takes."""

    name: str
    step: int


@dataclass(frozen=True)
class Save:
    """Write the state of a job that is cut."""

    name: str
    path: Path


@dataclass(frozen=True)
class Gather:
    """Give the first process the backbone of a job that is cut."""

    name: str
    which: Role


@dataclass(frozen=True)
class Evaluation:
    """An exported backbone that all processes evaluate as an experiment asks; `identity` is that of its evaluations,
    `threads` those of each process."""

    experiment: Experiment
    identity: str
    folder: Path
    threads: int


Training = Step | Begin | PassOver | Save | Gather
Order = Training | Evaluation
