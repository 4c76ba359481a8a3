"""Makes again what a run has kept and is not whole: the same training from the state before it gives the same bits.

Curves, status and results stay as they are, since they tell of the same steps.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch

from common.errors import BadInput
from common.progress import Bar
from harness import checkpoint, store
from harness.beginning import first_state, fresh_state, frozen_teacher, load_kept
from harness.data.pool import Pool
from harness.graph import Job
from harness.job_folder import snapshot_folder, state_path
from harness.kept import Fault, faults
from harness.step import State, train_step
from harness.store import MARKS
from harness.train import Evaluate, batches_to, export_backbone, look_of, scheduled, settled, to_device, train
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


def bring_to_end(job: Job, jobs: Sequence[Job], pool: Pool, evaluate: Evaluate, *, device: torch.device) -> None:
    """Mend and train one of the jobs, its segment held meanwhile. Raises as `train`; `Busy` while another holds it."""
    with store.used(job.folder.parent), held(job.folder):
        broken = [fault for fault in faults(family(job, jobs)) if fault.job.name == job.name]
        mend(job, broken, pool, device=device)
        train(job, pool, evaluate, device=device)


def family(job: Job, jobs: Sequence[Job]) -> list[Job]:
    """The job and all that needs it, which may lack what it keeps for them."""
    later = [one for one in jobs if job.name in {need.name for need in one.needed}]
    return [job, *later]


def state_at(job: Job, step: int, device: torch.device) -> State:
    """The job's state after `step` steps, as it is kept; where it begins, as it began."""
    if state_path(job, step).exists():
        state = fresh_state(job.settings, job.seed, device)
        load_kept(job, step, state, device)
    else:
        state = first_state(job, device)
    state.frozen = frozen_teacher(job, device)
    return state


def advance(job: Job, state: State, pool: Pool, step: int) -> None:
    """Take the job's steps until `step`."""
    device, look = next(state.student.parameters()).device, look_of(job, pool)
    with Bar(total=step, initial=state.step, desc=f"{job.name} again", unit="step") as bar:
        look(state.seen, state.teacher.backbone, state.step)
        for batch in batches_to(job, state, pool, step):
            now = scheduled(job, state, state.step)
            train_step(state, to_device(batch, device), now, settled(job, state), seed=job.seed)
            look(state.seen, state.teacher.backbone, state.step)
            bar.update()


def write_again(job: Job, state: State, fault: Fault) -> None:
    """Put a whole one in the place of a bad one; the results of an export that was evaluated stay."""
    if fault.path == state_path(job, fault.step):
        checkpoint.save_state(state, fault.path, identity=job.identity)
    elif fault.path == snapshot_folder(job, fault.step):
        export_backbone(job, state, fault.path, which="teacher", keep_results=any(fault.path.glob(MARKS)))
    else:
        export_backbone(job, state, fault.path, which="student", keep_results=any(fault.path.glob(MARKS)))
