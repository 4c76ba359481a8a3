"""All that a run carries from step to step, and how its teachers follow the student."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field

import torch
from torch import nn

from common.ranks import ALONE, Ranks
from harness import gram_teacher
from harness.backbones.convnext import Encoder, blocks
from harness.dense_watch import Seen, best
from harness.distillation import FrozenTeacher
from harness.eval_settings import Role
from harness.model import Network, build_backbone
from harness.settings import Experiment
from harness.shards import is_cut, made, own


@dataclass
class State:
    """All that a run carries from step to step; `step` is the next one to take, `gram_teacher` a network of its own.

    seen: what was measured on the way, where something is decided by it.
    frozen: the teacher of a distillation, which asks in place of the EMA teacher and is no part of what is saved.
    learner: the student as it is called where several processes share a step.
    shared: the step of which the other processes have this state; a step that is passed over is not one of them.
    on_disk: the step of which the segment has this state, since it was read there or written.
    """

    step: int
    student: Network
    teacher: Network
    optimizer: torch.optim.AdamW
    gram_teacher: Encoder | None = None
    seen: Seen = field(default_factory=Seen)
    frozen: FrozenTeacher | None = None
    learner: nn.Module | None = None
    shared: int | None = None
    on_disk: int | None = None


def network_of(state: State, which: Role) -> Network:
    """The student or its EMA teacher."""
    return state.teacher if which == "teacher" else state.student


def renewed(state: State, settings: Experiment, ranks: Ranks = ALONE) -> Encoder:
    """The next Gram teacher: a copy of the EMA teacher, or of the best of those that were measured, by the first of
    several processes."""
    into = state.gram_teacher
    if into is None and is_cut(state.teacher):
        into = cut_backbone(settings, like=state.teacher)
    copy = frozen_copy(state.teacher.backbone, into=into)
    if not gram_teacher.source(settings.gram).chosen:
        return copy
    if ranks.first:
        step = best({step: state.seen.values[step] for step in state.seen.ring})
        copy = frozen_copy(state.seen.ring[step], into=copy)
    ranks.given(copy.state_dict().values())
    return copy


@torch.no_grad()
def follow(teacher: Network, student: Network, momentum: float) -> None:
    """EMA of every parameter that is trained, heads included: t ← m·t + (1 − m)·s."""
    for mine, its in zip(teacher.parameters(), student.parameters(), strict=True):
        if its.requires_grad:
            own(mine).lerp_(own(its), 1 - momentum)


def cut_backbone(settings: Experiment, *, like: Network) -> Encoder:
    """A frozen backbone of the student's kind, cut as `like` is; its weights are not filled."""
    weight = next(like.parameters())
    return made(lambda: build_backbone(settings.model).to(weight.dtype), blocks, weight.device, trained=False)


@torch.no_grad()
def frozen_copy(backbone: Encoder, *, into: Encoder | None = None) -> Encoder:
    """A frozen copy of a backbone, in `into` when there is one."""
    if into is None:
        return deepcopy(backbone).requires_grad_(False).eval()
    into.load_state_dict(backbone.state_dict())
    return into
