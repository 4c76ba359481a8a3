"""The state that a job begins or goes on with: its newest one, its parent's where it forks, or step 0."""

from __future__ import annotations

import logging
from copy import deepcopy
from pathlib import Path
from typing import cast

import torch

from common.ranks import ALONE, Ranks
from harness import checkpoint, distillation, gram_teacher
from harness.backbones import compiled, released
from harness.backbones.convnext import Encoder
from harness.backbones.vit import Vit
from harness.data.sizes import most_seen, sides
from harness.dense_watch import Seen
from harness.distillation import FrozenTeacher
from harness.gram_teacher import given_folder
from harness.job import Job
from harness.job_folder import gram_folder, saved_steps, state_path
from harness.model import Network, initialise
from harness.optimizer import build_optimizer
from harness.settings import Experiment
from harness.state import State, frozen_copy

log = logging.getLogger("gramlab")


def fresh_state(settings: Experiment, seed: int, device: torch.device) -> State:
    """Step 0: a random student, a teacher equal to it, an optimizer without moments."""
    student = Network(settings)
    compiled.settle(student.backbone, settings.runtime.compile, device)
    initialise(student, torch.Generator().manual_seed(seed))
    teacher = deepcopy(student).requires_grad_(False).eval()
    student, teacher = student.to(device).train(), teacher.to(device)
    return State(0, student, teacher, build_optimizer(student, settings.optimizer))


def resume(job: Job, device: torch.device) -> State:
    """The newest readable state of the segment, else what it begins with; with the teacher of a distillation."""
    state = _resumed(job, device)
    state.frozen = frozen_teacher(job, device)
    return state


def frozen_teacher(job: Job, device: torch.device, ranks: Ranks = ALONE) -> FrozenTeacher | None:
    """The teacher of a distillation; None where the student's EMA is its teacher.

    ranks: those that each hold a part of it.
    """
    if job.settings.distillation.teacher is None:
        return None
    trained = job.taught_by
    path = state_path(trained, trained.stop) if trained else Path(job.settings.distillation.teacher)
    return distillation.read(path, job.settings, device, ranks)


def _resumed(job: Job, device: torch.device) -> State:
    for step in saved_steps(job):
        state = fresh_state(job.settings, job.seed, device)
        try:
            load_kept(job, step, state, device)
        except checkpoint.Damaged as error:
            log.warning("%s; passed over", error)
            continue
        log.info("%s: goes on from step %d", job.name, state.step)
        return state
    return first_state(job, device)


def first_state(job: Job, device: torch.device) -> State:
    """What the job's segment begins with: its parent where it forks, else step 0, from weights when they are given.

    The Gram teacher is the parent's where both name the same one, else the one that is given, was kept or began. A job
    that inherits the teacher alone begins with two copies of it, an optimizer without moments, and nothing measured.
    """
    root = job.root
    state = fresh_state(root.settings, root.seed, device)
    if root.parent is not None:
        load_kept(root.parent, root.start, state, device)
        if root.inherit == "teacher":
            state.student.load_state_dict(state.teacher.state_dict())
            state.optimizer.state.clear()
        if root.inherit != "all" or not _measured_alike(root.settings, root.parent.settings):
            state.seen = Seen()
        if root.keeps_gram_teacher:
            return state
    elif root.settings.weights is not None:
        checkpoint.load_weights(state, Path(root.settings.weights))
    elif root.settings.model.start_from is not None:
        networks = (state.student, state.teacher)
        released.fill(((one.backbone, one.mask_token) for one in networks), root.settings.model.start_from)
        for one in networks:
            if one.local_cls_norm is not None:  # begins as the released norm, which it stands beside
                one.local_cls_norm.load_state_dict(cast(Vit, one.backbone).norm.state_dict())
    if gram_teacher.is_first(root.settings.gram):
        began = state if root.beginning is root else first_state(root.beginning, device)
        state.gram_teacher = frozen_copy(began.teacher.backbone)
    else:
        state.gram_teacher = read_gram_teacher(root, state, gram_folder(root), device)
    return state


def _measured_alike(own: Experiment, parent: Experiment) -> bool:
    """Whether what the parent measured is to be compared with what an arm measures: by the same, on the same images."""
    sides_of = [most_seen(sides(one.crops)) for one in (own, parent)]
    alike = own.data.sources == parent.data.sources and sides_of[0] == sides_of[1]
    return alike and gram_teacher.is_watched_alike(own.gram, parent.gram)


def load_kept(job: Job, step: int, state: State, device: torch.device) -> None:
    """Fill `state` with what the job's segment kept after `step` steps."""
    state.gram_teacher = read_gram_teacher(job, state, given_folder(job.settings.gram), device)  # for its shapes
    checkpoint.load_state(state, state_path(job, step), identity=job.identity)


def read_gram_teacher(job: Job, state: State, folder: Path | None, device: torch.device) -> Encoder | None:
    """The Gram teacher in a folder, where there is one."""
    if folder is None:
        return None
    return gram_teacher.read(folder, job.settings.gram, like=state.teacher.backbone, device=device)
