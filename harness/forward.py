"""The forward pass of a step: the teachers are asked, the student answers, and the losses are weighed.

Sections are those of DINOv3 (arXiv 2508.10104); C = 2B global crops in crop-major order, M masked patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial

import torch
from torch import Tensor

from common.products import fast_linear
from common.ranks import ALONE, Ranks
from harness import gram_teacher, gram_view
from harness.backbones.convnext import blocks
from harness.components import Tally
from harness.data.batches import Batch
from harness.distillation import Answers, answers
from harness.losses.cross_entropy import Scores
from harness.losses.inputs import Outputs, Targets
from harness.losses.sinkhorn import sinkhorn_knopp
from harness.losses.table import LOSSES
from harness.model import Network, encode, patch_size
from harness.noise import Draws, student_noise
from harness.schedules import At
from harness.settings import Experiment, Precision
from harness.shards import is_cut, touched, within
from harness.split import Learnt
from harness.state import State


def forward(
    state: State, batch: Batch, at: At, settings: Experiment, *, seed: int, tally: Tally | None = None
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Total loss, its terms before their factors, and two entropies to watch for collapse; nothing is changed."""
    with autocast(batch.globals.device, settings.precision), fast_linear():
        (targets,) = teach(state, [batch], at, settings)
    total, terms, prediction = learn(state.student, batch, targets, at, settings, seed=seed, tally=tally)
    return total, dict(terms), watched(targets.entropy, prediction)


def learn(
    student: Network,
    batch: Batch,
    targets: Targets,
    at: At,
    settings: Experiment,
    *,
    seed: int,
    share: Mapping[str, float] | None = None,
    tally: Tally | None = None,
    ranks: Ranks = ALONE,
) -> Learnt:
    """The student's answers to a part of the step's batch, against what the teachers ask for.

    share: by what the terms of each loss are multiplied (`harness.split.shares`).
    """
    noise = student_noise(seed, at.step, batch, settings, depth=len(blocks(student.backbone)))
    with autocast(batch.globals.device, settings.precision, keeps=not is_cut(student)), fast_linear():
        outputs = study(student, batch, masked_positions(batch), noise, settings, whole=targets.gram is not None)
    outputs = outputs._replace(ranks=ranks)
    terms = losses(outputs, targets, settings, share=share)
    total = weigh(terms, at.factors)
    if is_cut(student) and outputs.ibot is not None and "ibot" in (share or {}) and "ibot" not in terms:
        total = touched(total, student.ibot_head.parameters())  # masked patches are in other parts of the batch
    if tally is not None:
        tally.judge(batch, outputs, targets, settings)
    return Learnt(total, terms, mean_prediction(outputs, settings))


def autocast(device: torch.device, precision: Precision, *, keeps: bool = True) -> AbstractContextManager:
    """bfloat16 autocast when asked for; weights stay in float32. On the meta device that of the CPU: nothing is rounded
    there, but what asks whether it is on takes the same way.

    keeps: the rounded weights until it ends, for those that are used more than once.
    """
    kind, enabled = "cpu" if device.type == "meta" else device.type, precision == "bfloat16"
    return torch.autocast(kind if enabled else "cpu", torch.bfloat16, enabled=enabled, cache_enabled=keeps)


def masked_positions(batch: Batch) -> Tensor:
    """Flat indices [M] of the masked patches; computed where the masks are made, so that no device has to wait."""
    return batch.masks.flatten().nonzero().squeeze(1).to(batch.globals.device)


@torch.no_grad()
def teach(state: State, parts: Sequence[Batch], at: At, settings: Experiment, *, ranks: Ranks = ALONE) -> list[Targets]:
    """Teacher forward on unmasked global crops, Sinkhorn–Knopp targets (§3.2), the Gram teacher's patches (§4.2).

    The teacher is the EMA teacher, or in a distillation the frozen one (§5.2); assignments are over the crops of all
    parts of all processes.
    """
    said, anchored = list[Answers](), gram_teacher.is_on(settings.gram, at.step)
    for part in parts:
        ask = state.frozen or partial(answers, state.teacher, whole=anchored and part.gram is None)
        patch, masked = patch_size(state.student.backbone), masked_positions(part)
        said.append(ask(part, masked, patch=patch, ibot=settings.ibot.is_on))
    used_up = state.frozen is None  # other students learn from what a frozen teacher said
    assign = partial(assigned, temperature=at.temperature, used_up=used_up, ranks=ranks)
    dino, ibot = assign([one.dino for one in said]), assign([one.ibot for one in said])
    found = list[Targets]()
    for part, one, classes, patches in zip(parts, said, dino, ibot, strict=True):
        assert classes is not None, "a teacher always answers for the class tokens"
        entropy = torch.special.entr(classes).sum(-1).mean()
        gram = kept_to(state, part, one, settings) if anchored else None
        found.append(Targets(classes.unflatten(0, part.globals.shape[:2]), patches, gram, entropy))
    return found


def assigned(
    logits: Sequence[Tensor | None], *, temperature: float, used_up: bool, ranks: Ranks
) -> Sequence[Tensor | None]:
    """Assignments of the samples of all parts of all processes to prototypes, part by part; None where none are."""
    given = [one for one in logits if one is not None]
    if not given:
        return logits
    whole = given[0] if len(given) == 1 else torch.cat(given)
    found = sinkhorn_knopp(whole, temperature, reduce=ranks.reduced, overwrite=used_up or len(given) > 1)
    return found.split([len(one) for one in given])


def kept_to(state: State, part: Batch, said: Answers, settings: Experiment) -> Tensor:
    """The patches of the Gram teacher, on the student's grid."""
    own, ema, seen = state.gram_teacher, state.teacher.backbone, said.patches
    if state.frozen is not None and part.gram is None:  # the EMA teacher has not been asked yet
        seen = within(state.teacher, lambda: encode(ema, part.globals.flatten(0, 1)).patches)
    asked = partial(gram_view.patches, settings.gram, part, own=own, ema=ema, seen=seen)
    return within(state.teacher, asked) if gram_teacher.source(settings.gram).live else asked()


def study(
    student: Network, batch: Batch, masked: Tensor, noise: dict[str, Draws], settings: Experiment, *, whole: bool
) -> Outputs:
    """Student forward: global crops, masked unless it learns from a frozen teacher (§5.2), and local crops.

    whole: whether all patches of the global crops are asked for, or those alone that iBOT asks for.
    """
    sees_all = settings.distillation.teacher is not None
    encoded = partial(encode, student.backbone, recompute=settings.runtime.recompute)
    tokens = encoded(
        batch.globals.flatten(0, 1),
        mask_token=student.mask_token,
        masks=None if sees_all else batch.masks.to(batch.globals.device),
        draws=noise["global"],
        picked=None if whole else masked,
    )
    classes, sees_locals = [tokens.cls], batch.locals.shape[0] > 0 and settings.dino.sees_locals
    if sees_locals:
        own = {"draws": noise["local"], "cls_norm": student.local_cls_norm, "picked": masked[:0]}
        classes.append(encoded(batch.locals.flatten(0, 1), **own).cls)
    scores = student.dino_head(torch.cat(classes))
    dino = by_view(scores, batch.globals)
    local = by_view(scores, batch.locals, behind=len(tokens.cls)) if sees_locals else None
    ibot = None
    if settings.ibot.is_on:
        chosen = tokens.patches.flatten(0, 1).index_select(0, masked) if whole else tokens.patches
        ibot = student.ibot_head(chosen)
    cls = tokens.cls.unflatten(0, batch.globals.shape[:2])
    return Outputs(dino, local, ibot, cls, tokens.patches if whole else None, batch.masks)


def by_view(scores: Scores, crops: Tensor, *, behind: int = 0) -> Scores:
    """The scores [V, B, K] of crops [V, B, …], which stand behind so many others."""
    views, images = crops.shape[:2]
    own = scores.features[behind : behind + views * images]
    return scores._replace(features=own.unflatten(0, (views, images)))


def losses(
    outputs: Outputs, targets: Targets, settings: Experiment, *, share: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Every term that is on, before its factor."""
    return {
        term: value * share.get(name, 0.0) if share else value
        for name, loss in LOSSES.items()
        for term, value in loss.terms(getattr(settings, name), outputs, targets).items()
    }


def weigh(terms: dict[str, Tensor], factors: Mapping[str, float]) -> Tensor:
    """The total: every term times its factor."""
    return torch.stack([factors[name] * term for name, term in terms.items()]).sum()


def watched(entropy: Tensor, prediction: Tensor) -> dict[str, Tensor]:
    """Two entropies in nats that tell of collapse: the mean one of the targets; that of the student's mean prediction,
    ln K when all prototypes serve alike, 0 when one serves all."""
    return {"target_entropy": entropy, "student_entropy": torch.special.entr(prediction).sum()}


@torch.no_grad()
def mean_prediction(outputs: Outputs, settings: Experiment) -> Tensor:
    """The student's probabilities of prototypes [K], averaged over global crops."""
    logits = outputs.dino_global.logits().float() / settings.dino.student_temperature
    return logits.softmax(-1).mean((0, 1))


def mean_of(numbers: Sequence[Tensor]) -> Tensor:
    """The mean of scalars; one of them alone as it is."""
    return numbers[0] if len(numbers) == 1 else torch.stack([*numbers]).mean()
