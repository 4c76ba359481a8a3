"""A job: a stretch of training, what it goes on from, where it lies, and what of it others need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from common.steps import job_name
from harness import distillation, gram_teacher, store
from harness.arms import Inherit
from harness.config import identity
from harness.settings import Experiment


@dataclass(frozen=True)
class Job:
    """Train `arm` with `seed` from step `start` to `stop`, from where `parent` is then, or from the beginning.

    science: all that shapes the result, from the first step of the segment on.
    inherit: what it begins with of the parent's state.
    taught_by: the job whose EMA teacher, at its end, is the frozen teacher of a distillation.
    forks: steps whose whole state must be kept, since arms begin with it or learn from it.
    snapshots: steps whose EMA backbone must be kept, since an arm anchors to it.
    """

    arm: str
    seed: int
    start: int
    stop: int
    settings: Experiment
    science: dict[str, Any]
    parent: Job | None = None
    inherit: Inherit = "all"
    taught_by: Job | None = None
    forks: tuple[int, ...] = ()
    snapshots: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """What it is called, uniquely in its experiment."""
        return job_name(self.arm, self.seed)

    @cached_property
    def identity(self) -> str:
        """Hash of all that shapes the result: the segment's name in the store."""
        return identity(self.science)

    @property
    def content(self) -> tuple[str, int, int]:
        """What it trains: jobs of equal content are one training under two names."""
        return self.identity, self.start, self.stop

    @property
    def folder(self) -> Path:
        """Where the segment lies, in the store."""
        return Path(self.settings.runtime.folder) / store.FOLDER / self.identity

    @property
    def view(self) -> Path:
        """The experiment's link to it."""
        return Path(self.settings.runtime.folder) / self.settings.name / self.name

    @property
    def root(self) -> Job:
        """The job with which the segment begins: another one where this goes on with its parent's segment."""
        return self.parent.root if self.parent is not None and self.parent.identity == self.identity else self

    @property
    def teacher(self) -> Experiment | None:
        """The settings with the shapes of a frozen teacher; None where there is none."""
        return distillation.teacher_settings(self.settings, self.taught_by.settings if self.taught_by else None)

    @property
    def needs(self) -> list[Job]:
        """The jobs that must be done before it can begin."""
        return [job for job in (self.parent, self.taught_by) if job is not None]

    @property
    def needed(self) -> list[Job]:
        """All that must be done before it, the first of them first."""
        return [one for need in self.needs for one in (*need.needed, need)]

    @property
    def path(self) -> list[Job]:
        """The jobs that lead here from step 0, itself the last."""
        return [*(self.parent.path if self.parent else ()), self]

    @property
    def beginning(self) -> Job:
        """The job on the path with which the step counter begins: the last one that does not inherit it."""
        return next((one for one in reversed(self.path) if one.inherit != "all"), self.path[0])

    @property
    def origin(self) -> int:
        """The step that warm-ups and ends of schedules count from."""
        return self.root.start if self.settings.schedule.counts_from == "segment" else self.beginning.start

    @property
    def keeps_gram_teacher(self) -> bool:
        """Whether it goes on with the Gram teacher that its parent has at the fork."""
        if self.parent is None or self.inherit != "all":
            return False
        return gram_teacher.is_inherited(self.settings.gram, self.parent.settings.gram)

    @property
    def earlier(self) -> tuple[int, ...]:
        """The steps before its start whose EMA backbones it begins with: its Gram teacher's, or all it chooses from."""
        if self.keeps_gram_teacher:
            return ()
        return gram_teacher.earlier_steps(self.settings.gram, self.start, learnt=self.settings.first_trained)

    def images(self, step: int) -> int:
        """Images in all steps on the way up to one of its own; phases may have batches of other sizes."""
        before = 0 if self.parent is None else self.parent.images(self.start)
        return before + (step - self.start) * self.settings.data.batch_size

    def is_evaluated(self, step: int) -> bool:
        """Whether it is evaluated after `step`; a fork is evaluated with the parent."""
        within = self.first <= step <= self.stop
        return within and (step % self.settings.evals.every == 0 or step == self.stop)

    @property
    def first(self) -> int:
        """The first step whose weights are the job's own."""
        return self.start if self.parent is None else self.start + 1

    @property
    def evaluations(self) -> Sequence[int]:
        """Steps after which it is evaluated."""
        every, first = self.settings.evals.every, self.first
        regular = range(first + -first % every, self.stop + 1, every)
        return regular if self.stop in regular else [*regular, self.stop]


def holder(job: Job, step: int) -> Job:
    """The job on the way to this one that took the steps up to `step`, which lies before its own start."""
    return next(one for one in reversed(job.path) if one.start < step or one.parent is None)
