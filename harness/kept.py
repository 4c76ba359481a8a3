"""What segments lack of what is asked of them: files that are not whole, states and snapshots that were not kept.

Each says what it is made again from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from common.errors import BadInput, found
from common.steps import KINDS, folders_by_step
from common.unchanged import until_changed
from evals.backbones import exported
from harness import checkpoint, gram_teacher
from harness.job import Job, holder
from harness.job_folder import (
    earlier_folders,
    is_done,
    reached,
    saved_step,
    saved_steps,
    state_path,
    step_folder,
    whole_steps,
)
from harness.store import MARKS


class Fault(NamedTuple):
    """A state, an export or a snapshot that is not there, or not what was written.

    job: whose training made it, and makes it again.
    step: after which it is written.
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
    """All that these jobs still need or show, that was passed already and is not whole, parents first.

    Every file is read to its last bit.
    """
    kept: dict[Path, Fault] = {}
    wanted: dict[str, dict[int, Path]] = defaultdict(dict)  # by the job that makes it: steps, and what is needed there
    for job in reversed(jobs):
        done = is_done(job)
        at = job.stop if done else saved_step(job)
        own = [*(() if done else _states(job, at)), *_exports(job, at), *_wanted(job, wanted[job.name])]
        if job.root is job and (at == job.start or any(fault.start == job.start for fault in own)):
            if job.parent is not None:
                wanted[job.parent.name][job.start] = state_path(job.parent, job.start)
            for step, folder in earlier_folders(job).items():
                wanted[holder(job, step).name].setdefault(step, folder)
            if gram_teacher.is_first(job.settings.gram) and (before := job.beginning.parent) is not None:
                wanted[before.name].setdefault(job.beginning.start, state_path(before, job.beginning.start))
        if job.taught_by is not None and (at < job.stop or any(fault.start is not None for fault in own)):
            wanted[job.taught_by.name][job.taught_by.stop] = state_path(job.taught_by, job.taught_by.stop)
        kept = {fault.path: fault for fault in own} | kept
    return list(kept.values())


def _states(job: Job, at: int) -> Iterator[Fault]:
    """States that training passes over as it goes on from step `at`."""
    for step in saved_steps(job):
        path = state_path(job, step)
        if step > at and (reason := _damage(path, job)):
            yield Fault(job, step, path, reason, None, f"{job.name} goes on from step {at}")


def _exports(job: Job, at: int) -> Iterator[Fault]:
    """Exports of the job's evaluated steps up to `at`; those after it are made again as training passes by.

    One that was evaluated has done its work: it is made again where the state of its step is at hand, else left. The
    last is asked for; others that the segment passed without keeping them are not.
    """
    own = [folders_by_step(job.folder, kind) for kind in KINDS.values()]
    for step, folder in ((step, folder) for folders in own for step, folder in folders.items()):
        if step > at or not job.is_evaluated(step) or len(exported.missing_files(folder)) == 2:
            continue
        if not (reason := _export_fault(folder)):
            continue
        start = _start(job, step)
        if [*folder.glob(MARKS)] and start != step:
            otherwise = f"its results stand; without its {MARKS} it would be made again by steps {start}–{step}"
            yield Fault(job, step, folder, reason, None, otherwise)
        else:
            yield Fault(job, step, folder, reason, start)
    last = step_folder(job, job.stop)
    if at >= job.stop and not last.is_dir():
        yield Fault(job, job.stop, last, f"{last} is not kept", _start(job, job.stop))


def _wanted(job: Job, wanted: dict[int, Path]) -> Iterator[Fault]:
    """States and snapshots of steps that the segment has passed, which jobs begin with and anchor to."""
    for step, path in wanted.items():
        if step > reached(job) or not job.folder.exists():
            continue
        reason = _damage(path, job) if path == state_path(job, step) else _export_damage(path)
        if reason:
            yield Fault(job, step, path, reason, _start(job, step))


def _start(job: Job, step: int) -> int:
    """The last step up to this one whose state is whole, or the segment's first."""
    return next((at for at in whole_steps(job) if at <= step), job.root.start)


def _damage(path: Path, job: Job) -> str | None:
    """What is wrong with a state of a job; None where it is whole."""
    if not path.exists():
        return f"{path} is missing"
    try:
        checkpoint.verified_step(path, identity=job.identity)
    except BadInput as error:
        return found(error)
    return None


def _export_damage(folder: Path) -> str | None:
    return _export_fault(folder) if folder.is_dir() else f"{folder} is missing"


@until_changed(exported.CARD, exported.WEIGHTS)
def _export_fault(folder: Path) -> str | None:
    """As `exported.fault`, each folder read once."""
    return exported.fault(folder)
