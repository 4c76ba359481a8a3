"""What a run has kept and is not whole any more: states, exports and snapshots, and what each is made again from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import BadInput, found
from common.steps import folders_by_step
from evals.backbones import exported
from harness import checkpoint, gram_teacher
from harness.graph import Job
from harness.job_folder import (
    is_done,
    saved_step,
    saved_steps,
    snapshot_folder,
    state_path,
    whole_steps,
)

MARK = "evaluated.json"


class Fault(NamedTuple):
    """A state, an export or a snapshot that is not what was written.

    job: whose training made it, and makes it again.
    step: after which it was written.
    reason: what is wrong with it.
    start: the step of the state from which it is made again; None where it is left as it is.
    otherwise: what happens where it is left.
    """

    job: Job
    step: int
    path: Path
    reason: str
    start: int | None
    otherwise: str = ""

    @property
    def words(self) -> str:
        """One line for plan and log."""
        if self.start is None:
            return f"{self.reason}; {self.otherwise}"
        if self.start == self.step:
            return f"{self.reason}; made again from the state of that step"
        return f"{self.reason}; made again by steps {self.start}–{self.step} of {self.job.name}"


def faults(jobs: Sequence[Job]) -> list[Fault]:
    """All that these jobs have kept, still need or show, and that is not whole; every file is read to its last bit."""
    kept: dict[Path, Fault] = {}
    for job in jobs:
        done = is_done(job)
        at = job.stop if done else saved_step(job)
        own = [*(() if done else _states(job, at)), *_exports(job, at)]
        if at == job.start or any(fault.start == job.start for fault in own):
            own += _of_the_trunk(job)
        kept |= {fault.path: fault for fault in own}
    return list(kept.values())


def _states(job: Job, at: int) -> Iterator[Fault]:
    """States that training passes over as it goes on from step `at`."""
    for step in saved_steps(job):
        path = state_path(job, step)
        if step > at and (reason := _damage(path, job)):
            yield Fault(job, step, path, reason, None, f"{job.name} goes on from step {at}")


def _exports(job: Job, at: int) -> Iterator[Fault]:
    """Exports up to the step that the job is at; those after it are made again as training passes by.

    One that was evaluated has done its work: it is made again where the state of its step is at hand, else left.
    """
    for step, folder in folders_by_step(job.folder).items():
        if step > at or len(exported.missing_files(folder)) == 2 or not (reason := exported.fault(folder)):
            continue
        start = _start(job, step)
        if (folder / MARK).exists() and start != step:
            otherwise = f"its results stand; without its {MARK} it would be made again by steps {start}–{step}"
            yield Fault(job, step, folder, reason, None, otherwise)
        else:
            yield Fault(job, step, folder, reason, start)


def _of_the_trunk(job: Job) -> Iterator[Fault]:
    """The state that a job begins with and the snapshot that it anchors to, where its trunk has made them already."""
    trunk = job.parent
    if trunk is None:
        return
    path = state_path(trunk, job.start)
    if is_done(trunk) and (reason := _damage(path, trunk)):
        yield Fault(trunk, job.start, path, reason, _start(trunk, job.start))
    step = gram_teacher.early_step(job.settings.gram, job.start)
    if step is not None and (is_done(trunk) or step <= saved_step(trunk)):
        folder = snapshot_folder(trunk, step)
        if folder.exists() and (reason := exported.fault(folder)):
            yield Fault(trunk, step, folder, reason, _start(trunk, step))


def _start(job: Job, step: int) -> int:
    """The last step up to this one whose state is whole, or the job's first."""
    return next((at for at in whole_steps(job) if at <= step), job.start)


def _damage(path: Path, job: Job) -> str | None:
    """What is wrong with a state of a job; None where it is whole."""
    if not path.exists():
        return f"{path} is missing"
    try:
        checkpoint.verified_step(path, identity=job.identity)
    except BadInput as error:
        return found(error)
    return None
