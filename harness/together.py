"""What all processes do at once with a state that is cut: begin with it, write it, gather a backbone of it.

All but `cut`, which all processes call, are called by the first one, which tells the others; what these then do is in
`harness.follow`. Of a state that is not cut the first process sees to all by itself.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from common.ranks import Ranks, joined
from harness import checkpoint, cut_state, gram_teacher
from harness.backbones.convnext import Encoder
from harness.beginning import first_state, fresh_state, frozen_teacher, load_kept, resume
from harness.eval_settings import Role
from harness.gram_teacher import given_folder
from harness.job import Job
from harness.job_folder import saved_steps, state_path
from harness.model import build_backbone
from harness.orders import Begin, Gather, Save
from harness.shards import gathered, is_cut, unfilled
from harness.state import State, network_of

log = logging.getLogger("gramlab")
CPU = torch.device("cpu")


def begun(job: Job, device: torch.device, *, anew: Callable[[], bool]) -> State:
    """The state that a job begins or goes on with, cut where that is asked for. anew: as in `Begin`."""
    ranks = joined()
    if job.settings.runtime.shard and ranks.world > 1:
        state = _told(job, device, ranks, step=None, anew=anew())
    else:
        state = resume(job, device)
    state.on_disk = state.step
    return state


def state_at(job: Job, step: int, device: torch.device) -> State:
    """The job's state after `step` steps, as it is kept; where it begins, as it began."""
    ranks = joined()
    if job.settings.runtime.shard and ranks.world > 1:
        return _told(job, device, ranks, step=step, anew=True)
    if state_path(job, step).exists():
        state = fresh_state(job.settings, job.seed, device)
        load_kept(job, step, state, device)
    else:
        state = first_state(job, device)
    state.frozen = frozen_teacher(job, device)
    return state


def _told(job: Job, device: torch.device, ranks: Ranks, *, step: int | None, anew: bool) -> State:
    ranks.agreed(Begin(job, step, anew, torch.get_num_threads()))
    return cut(job, device, ranks, step=step)


def cut(job: Job, device: torch.device, ranks: Ranks, *, step: int | None) -> State:
    """The newest readable state of a job, or that of a step, else what it begins with: a part of it in each process."""
    gc.collect()  # one that was held before refers to itself
    steps = ranks.agreed([one for one in saved_steps(job) if step in (None, one)])
    for one in steps:
        try:
            state = _kept(job, one, device, ranks)
        except checkpoint.Damaged as error:
            if step is not None:
                raise
            if ranks.first:
                log.warning("%s; passed over", error)
            continue
        if ranks.first and step is None:
            log.info("%s: goes on from step %d", job.name, state.step)
        break
    else:
        state = cut_state.cut(ranks.led(lambda: first_state(job, CPU)), job.settings, device, ranks)
    state.frozen = frozen_teacher(job, device, ranks)
    return state


def _kept(job: Job, step: int, device: torch.device, ranks: Ranks) -> State:
    """The state of a step, read by all processes from a folder, by the first one from a file."""
    path = state_path(job, step)
    if not ranks.agreed(path.is_dir()):
        return cut_state.cut(ranks.led(lambda: _whole(job, step)), job.settings, device, ranks)
    anchor = ranks.told(lambda: _given(job))
    return cut_state.load(path, job.settings, device, ranks, identity=job.identity, anchor=anchor)


def _whole(job: Job, step: int) -> State:
    state = fresh_state(job.settings, job.seed, CPU)
    load_kept(job, step, state, CPU)
    return state


def _given(job: Job) -> Encoder | None:
    """The Gram teacher that the job is given, on the meta device."""
    folder = given_folder(job.settings.gram)
    if folder is None:
        return None
    with torch.device("meta"):
        like = build_backbone(job.settings.model)
    return gram_teacher.read(folder, job.settings.gram, like=like, device=torch.device("meta"))


def save(job: Job, state: State, path: Path) -> None:
    """Put a state on the disk: as a file, or as a folder where it is cut."""
    if is_cut(state.student):
        ranks = joined()
        ranks.agreed(Save(job.name, path))
        cut_state.save(state, path, identity=job.identity, ranks=ranks)
    else:
        checkpoint.save_state(state, path, identity=job.identity)
    state.on_disk = state.step


def backbone_of(job: Job, state: State, which: Role) -> nn.Module:
    """A backbone of the state; where it is cut a whole one on the CPU."""
    network = network_of(state, which)
    if not is_cut(network):
        return network.backbone
    ranks = joined()
    ranks.agreed(Gather(job.name, which))
    backbone = unfilled(lambda: build_backbone(job.settings.model))
    backbone.load_state_dict(gathered(network.backbone.state_dict(), ranks))
    return backbone
