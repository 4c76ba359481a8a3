"""One training step as a function that reads as the paper does: teach, study, weigh, descend, follow.

Sections are those of DINOv3 (arXiv 2508.10104); C = 2B global crops in crop-major order, M masked patches.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from common.products import fast_linear
from harness import gram_teacher, gram_view
from harness.backbones.convnext import Encoder, blocks
from harness.components import Tally
from harness.data.batches import Batch
from harness.dense_watch import Seen, best
from harness.distillation import FrozenTeacher, answers
from harness.losses.cross_entropy import Scores
from harness.losses.inputs import Outputs, Targets
from harness.losses.sinkhorn import sinkhorn_knopp
from harness.losses.table import LOSSES
from harness.model import Network, encode, patch_size
from harness.noise import Draws, student_noise
from harness.optimizer import clip_gradients, descend, freeze_backbone
from harness.schedules import At
from harness.settings import Experiment, Precision


@dataclass
class State:
    """All that a run carries from step to step; `step` is the next one to take, `gram_teacher` a network of its own.

    seen: what was measured on the way, where something is decided by it.
    frozen: the teacher of a distillation, which asks in place of the EMA teacher and is no part of what is saved.
    """

    step: int
    student: Network
    teacher: Network
    optimizer: torch.optim.AdamW
    gram_teacher: Encoder | None = None
    seen: Seen = field(default_factory=Seen)
    frozen: FrozenTeacher | None = None


class NonFinite(ArithmeticError):
    """A loss, its gradient or evaluated features are not finite; raised before the optimizer is touched."""


def train_step(
    state: State, batch: Batch, at: At, settings: Experiment, *, seed: int, tally: Tally | None = None
) -> dict[str, Tensor]:
    """Take one step in place and return its detached terms by name. Raises `NonFinite` before any weight changes.

    tally: gets the losses of the batch's components.
    """
    if at.renew_gram_teacher or gram_teacher.is_lacking(settings.gram, at.step, state.gram_teacher):
        state.gram_teacher = renewed(state, settings)
    freeze_backbone(state.student, at.backbone_frozen)
    total, terms, entropies = forward(state, batch, at, settings, seed=seed, tally=tally)
    total.backward()
    norm = clip_gradients(state.student, settings.optimizer.clip)
    try:
        refuse_non_finite({**terms, "grad_norm": norm}, batch, at.step)
    except NonFinite:
        state.optimizer.zero_grad(set_to_none=True)
        raise
    descend(state.optimizer, at)
    follow(state.teacher, state.student, at.momentum)
    state.step = at.step + 1
    return {
        "loss": total.detach(),
        **{name: term.detach() for name, term in terms.items()},
        **entropies,
        "grad_norm": norm,
    }


def renewed(state: State, settings: Experiment) -> Encoder:
    """The next Gram teacher: a copy of the EMA teacher, or of the best of those that were measured."""
    copy = frozen_copy(state.teacher.backbone, into=state.gram_teacher)
    if not gram_teacher.source(settings.gram).chosen:
        return copy
    step = best({step: state.seen.values[step] for step in state.seen.ring})
    return frozen_copy(state.seen.ring[step], into=copy)


def forward(
    state: State, batch: Batch, at: At, settings: Experiment, *, seed: int, tally: Tally | None = None
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Total loss, its terms before their factors, and two entropies to watch for collapse; nothing is changed."""
    masked = masked_positions(batch)
    noise = student_noise(seed, at.step, batch, settings, depth=len(blocks(state.student.backbone)))
    with autocast(batch.globals.device, settings.precision), fast_linear():
        targets = teach(state, batch, masked, at, settings)
        outputs = study(state.student, batch, masked, noise, settings, whole=targets.gram is not None)
    terms = losses(outputs, targets, settings)
    if tally is not None:
        tally.judge(batch, outputs, targets, settings)
    watch = {"target_entropy": targets.entropy, "student_entropy": mean_entropy(outputs, settings)}
    return weigh(terms, at.factors), terms, watch


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager:
    """bfloat16 autocast when asked for; weights stay in float32."""
    enabled = precision == "bfloat16" and device.type != "meta"
    return torch.autocast(device.type if enabled else "cpu", torch.bfloat16, enabled=enabled)


def masked_positions(batch: Batch) -> Tensor:
    """Flat indices [M] of the masked patches; computed where the masks are made, so that no device has to wait."""
    return batch.masks.flatten().nonzero().squeeze(1).to(batch.globals.device)


@torch.no_grad()
def teach(state: State, batch: Batch, masked: Tensor, at: At, settings: Experiment) -> Targets:
    """Teacher forward on unmasked global crops, Sinkhorn–Knopp targets (§3.2), the Gram teacher's patches (§4.2).

    The teacher is the EMA teacher, or in a distillation the frozen one (§5.2).
    """
    anchored = gram_teacher.is_on(settings.gram, at.step)
    ask = state.frozen or partial(answers, state.teacher, whole=anchored and batch.gram is None)
    said = ask(batch, masked, patch=patch_size(state.student.backbone), ibot=settings.ibot.weight > 0)
    used_up = state.frozen is None  # other students learn from what a frozen teacher said
    dino = sinkhorn_knopp(said.dino, at.temperature, overwrite=used_up)
    ibot = None if said.ibot is None else sinkhorn_knopp(said.ibot, at.temperature, overwrite=used_up)
    gram = None
    if anchored:
        own, ema, seen = state.gram_teacher, state.teacher.backbone, said.patches
        if state.frozen is not None and batch.gram is None:  # the EMA teacher has not been asked yet
            seen = encode(ema, batch.globals.flatten(0, 1)).patches
        gram = gram_view.patches(settings.gram, batch, own=own, ema=ema, seen=seen)
    crops, entropy = batch.globals.shape[:2], torch.special.entr(dino).sum(-1).mean()
    return Targets(dino.unflatten(0, crops), ibot, gram, entropy)


def study(
    student: Network, batch: Batch, masked: Tensor, noise: dict[str, Draws], settings: Experiment, *, whole: bool
) -> Outputs:
    """Student forward: global crops, masked unless it learns from a frozen teacher (§5.2), and local crops.

    whole: whether all patches of the global crops are asked for, or those alone that iBOT asks for.
    """
    sees_all = settings.distillation.teacher is not None
    tokens = encode(
        student.backbone,
        batch.globals.flatten(0, 1),
        mask_token=student.mask_token,
        masks=None if sees_all else batch.masks.to(batch.globals.device),
        draws=noise["global"],
        picked=None if whole else masked,
    )
    local = None
    if batch.locals.shape[0] and settings.dino.sees_locals:
        crops = batch.locals.flatten(0, 1)
        own = {"draws": noise["local"], "cls_norm": student.local_cls_norm, "picked": masked[:0]}
        local = encode(student.backbone, crops, **own).cls
        local = by_view(student.dino_head(local), batch.locals)
    ibot = None
    if settings.ibot.weight > 0 and len(masked):
        chosen = tokens.patches.flatten(0, 1).index_select(0, masked) if whole else tokens.patches
        ibot = student.ibot_head(chosen)
    crops = batch.globals.shape[:2]
    dino = by_view(student.dino_head(tokens.cls), batch.globals)
    return Outputs(dino, local, ibot, tokens.cls.unflatten(0, crops), tokens.patches if whole else None, batch.masks)


def by_view(scores: Scores, crops: Tensor) -> Scores:
    """Scores [V · B, K] of crops [V, B, …] as [V, B, K]."""
    return Scores(scores.features.unflatten(0, crops.shape[:2]), scores.prototypes)


def losses(outputs: Outputs, targets: Targets, settings: Experiment) -> dict[str, Tensor]:
    """Every term that is on, before its factor."""
    return {
        term: value
        for name, loss in LOSSES.items()
        for term, value in loss.terms(getattr(settings, name), outputs, targets).items()
    }


def weigh(terms: dict[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    """The total: every term times its factor."""
    return torch.stack([factors[name] * term for name, term in terms.items()]).sum()


def refuse_non_finite(terms: dict[str, Tensor], batch: Batch, step: int) -> None:
    """Raise `NonFinite`, naming every term and the batch's images by their place in the pool, unless all are finite."""
    values = torch.stack([term.detach().float() for term in terms.values()])
    if bool(values.isfinite().all()):
        return
    listed = ", ".join(f"{name}={value:.4g}" for name, value in zip(terms, values.tolist(), strict=True))
    raise NonFinite(f"step {step}: {listed}; images {', '.join(map(str, batch.indices.tolist()))} of the pool")


@torch.no_grad()
def follow(teacher: Network, student: Network, momentum: float) -> None:
    """EMA of every parameter that is trained, heads included: t ← m·t + (1 − m)·s."""
    for mine, its in zip(teacher.parameters(), student.parameters(), strict=True):
        if its.requires_grad:
            mine.lerp_(its, 1 - momentum)


@torch.no_grad()
def frozen_copy(backbone: Encoder, *, into: Encoder | None = None) -> Encoder:
    """A frozen copy of a backbone, in `into` when there is one."""
    if into is None:
        into = deepcopy(backbone)
        into.requires_grad_(False).eval()
    into.load_state_dict(backbone.state_dict())
    return into


@torch.no_grad()
def mean_entropy(outputs: Outputs, settings: Experiment) -> Tensor:
    """Entropy in nats of the student's mean prediction: ln K when all prototypes serve alike, 0 at collapse."""
    logits = outputs.dino_global.logits().float() / settings.dino.student_temperature
    return torch.special.entr(logits.softmax(-1).mean((0, 1))).sum()
