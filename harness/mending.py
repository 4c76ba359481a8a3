"""Makes again what a run has kept and is not whole: the same training from the state before it gives the same bits.

Curves, status and results stay as they are, since they tell of the same steps.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack, closing

import torch

from common.errors import BadInput
from common.interrupts import leave_if_asked
from common.progress import Bar
from harness import store, together
from harness.bad_steps import Stepper
from harness.data.pool import Pool
from harness.job import Job
from harness.job_folder import snapshot_folder, state_path
from harness.kept import Fault, faults
from harness.lockstep import Feed, scheduled, settled
from harness.state import State
from harness.step import NonFinite
from harness.store import MARKS
from harness.together import state_at
from harness.train import Evaluate, export_backbone, look_of, train_together
from harness.workplace import held

log = logging.getLogger("gramlab")


def mend(job: Job, broken: Sequence[Fault], pool: Pool, *, device: torch.device) -> None:
    """Make again what `harness.kept` found of this job; a new file takes the place of a bad one once it is whole."""
    state = None
    for fault in sorted(broken, key=lambda fault: fault.step):
        log.warning("%s", fault.words)
        if fault.start is None:
            continue
        try:
            if state is None or state.step < fault.start:
                state = state_at(job, fault.start, device)
        except BadInput as error:  # what needs it is refused as it comes to it
            log.warning("%s cannot be made again: %s", fault.path, error)
            continue
        advance(job, state, pool, fault.step)
        write_again(job, state, fault)


def bring_to_end(
    these: Sequence[Job], jobs: Sequence[Job], pool: Pool, evaluate: Evaluate, *, device: torch.device
) -> dict[str, NonFinite]:
    """Mend some of the jobs and train them together, their segments held meanwhile; what was not finite, by names.

    Raises as `train_together`; `Busy` while another process holds one of them.
    """
    failed = dict[str, NonFinite]()
    with store.used(these[0].folder.parent), ExitStack() as holding:
        for job in these:
            holding.enter_context(held(job.folder))
        for job in these:
            broken = [fault for fault in faults(with_dependents(job, jobs)) if fault.job.name == job.name]
            try:
                mend(job, broken, pool, device=device)
            except NonFinite as error:
                failed[job.name] = error
        sound = [job for job in these if job.name not in failed]
        return failed | train_together(sound, pool, evaluate, device=device)


def with_dependents(job: Job, jobs: Sequence[Job]) -> list[Job]:
    """The job and all that needs it, which may lack what it keeps for them."""
    later = [one for one in jobs if job.name in {need.name for need in one.needed}]
    return [job, *later]


def advance(job: Job, state: State, pool: Pool, step: int) -> None:
    """Take the job's steps until `step`."""
    device, look = next(state.student.parameters()).device, look_of(job, pool)
    take = Stepper(job, pool, grows=False)
    bar = Bar(total=step, initial=state.step, desc=f"{job.name} again", unit="step")
    with bar, closing(Feed(pool, device=device)) as feed:
        feed.skips(job)
        look(state.seen, state.teacher.backbone, state.step)
        while state.step < step:
            leave_if_asked()
            passes = take.passes_over(state.step)
            batch, placed = feed(job, state, taken=not passes)
            take(state, batch, placed, scheduled(job, state, state.step), settled(job, state), ranks=feed.ranks)
            look(state.seen, state.teacher.backbone, state.step)
            bar.update()


def write_again(job: Job, state: State, fault: Fault) -> None:
    """Put a whole one in the place of a bad one; the results of an export that was evaluated stay."""
    if fault.path == state_path(job, fault.step):
        together.save(job, state, fault.path)
    elif fault.path == snapshot_folder(job, fault.step):
        export_backbone(job, state, fault.path, which="teacher", keep_results=any(fault.path.glob(MARKS)))
    else:
        export_backbone(job, state, fault.path, which="student", keep_results=any(fault.path.glob(MARKS)))
