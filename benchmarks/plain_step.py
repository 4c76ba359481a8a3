"""A training step as one would write it down first, in eager PyTorch: what `benchmarks/step.py` measures ours against.

The same networks, losses and updates as `harness.step.train_step`, by formulas of its own and nothing of the harness,
so that it stays as it is when the step gets faster. No stochastic depth, no draws of positions; Gram of a copy, on
crops of its own or on the global ones.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Heads(NamedTuple):
    """Temperatures and prototypes of both heads, and the weights of the iBOT and the Gram loss."""

    student_temperature: float
    teacher_temperature: float
    unit_prototypes: bool
    ibot_weight: float
    gram_weight: float


@dataclass
class Plain:
    """A student, its EMA teacher, perhaps a Gram teacher, and the optimizer, all of plain modules."""

    student: Any
    teacher: Any
    gram_teacher: Any
    optimizer: torch.optim.Optimizer
    heads: Heads

    @classmethod
    def of(cls, network: Any, heads: Heads, *, lr: float, gram: bool) -> Plain:
        """Copies of a network with `backbone`, `mask_token`, `dino_head` and `ibot_head`."""
        student, teacher = deepcopy(network).train(), deepcopy(network).requires_grad_(False).eval()
        parameters = [one for one in student.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.04)
        return cls(student, teacher, deepcopy(teacher).backbone if gram else None, optimizer, heads)


def tokens(backbone: Any, images: Tensor, masks: Tensor | None = None, mask_token: Tensor | None = None) -> Tensor:
    """All tokens [B, T, D] of timm's backbone after its final norm, by its own blocks."""
    x = backbone.patch_embed(images)
    grid = x.shape[1:3]
    x = x.flatten(1, 2)
    if masks is not None and mask_token is not None:
        x = torch.where(masks[..., None], mask_token.to(x.dtype), x)
    prefix = [one.expand(len(x), -1, -1) for one in (backbone.cls_token, backbone.reg_token) if one is not None]
    x = backbone.norm_pre(torch.cat([*prefix, x], dim=1))
    rope = backbone.rope.get_embed(shape=list(grid))
    for block in backbone.blocks:
        x = block(x, rope=rope)
    return backbone.norm(x)


def logits(head: Any, x: Tensor, *, unit: bool) -> Tensor:
    """Scores of tokens against the prototypes."""
    weight = F.normalize(head.prototypes.weight, dim=-1) if unit else head.prototypes.weight
    return F.linear(F.normalize(head.mlp(x), dim=-1), weight)


@torch.no_grad()
def sinkhorn(scores: Tensor, temperature: float) -> Tensor:
    """Assignments [n, K] as published: exponentials, then three rounds over prototypes and samples."""
    q = (scores.float() / temperature).exp().t()
    q /= q.sum()
    for _ in range(3):
        q /= q.sum(1, keepdim=True)
        q /= len(q)
        q /= q.sum(0, keepdim=True)
        q /= q.shape[1]
    return (q * q.shape[1]).t()


def cross_entropy(scores: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Per row, in nats."""
    return -(targets * (scores.float() / temperature).log_softmax(-1)).sum(-1)


def koleo(x: Tensor) -> Tensor:
    x = F.normalize(x.float(), dim=-1)
    with torch.no_grad():
        nearest = (x @ x.T).fill_diagonal_(-2).argmax(1)
    return -(F.pairwise_distance(x, x[nearest], eps=1e-8) + 1e-8).log().mean()


def gram(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference of the cosines between the patches of each crop."""
    student, teacher = (F.normalize(one.float(), dim=-1) for one in (student, teacher))
    return F.mse_loss(student @ student.transpose(1, 2), teacher @ teacher.transpose(1, 2))


def plain_step(plain: Plain, batch: Any, *, momentum: float, clip: float, bfloat16: bool = False) -> dict[str, float]:
    """One step; `batch` has globals [2, B, 3, H, W], locals [L, B, 3, h, w], masks [2B, P] and perhaps gram."""
    device = batch.globals.device.type
    with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
        terms, factors = losses(plain, batch)
    total = torch.stack([factors[name] * term for name, term in terms.items()]).sum()
    total.backward()
    for part in ("backbone", "dino_head", "ibot_head"):
        torch.nn.utils.clip_grad_norm_(plain.student.get_submodule(part).parameters(), clip)
    plain.optimizer.step()
    plain.optimizer.zero_grad(set_to_none=True)
    with torch.no_grad():
        for mine, its in zip(plain.teacher.parameters(), plain.student.parameters(), strict=True):
            mine.mul_(momentum).add_(its, alpha=1 - momentum)
    return {name: float(term.detach()) for name, term in terms.items()}


def losses(plain: Plain, batch: Any) -> tuple[dict[str, Tensor], dict[str, float]]:
    """The terms, and the factor of each."""
    heads, student, teacher = plain.heads, plain.student, plain.teacher
    views, images = batch.globals.shape[:2]
    crops, masks = batch.globals.flatten(0, 1), batch.masks.to(batch.globals.device)
    prefix = student.backbone.num_prefix_tokens
    with torch.no_grad():
        seen = tokens(teacher.backbone, crops)
        scores = logits(teacher.dino_head, seen[:, 0], unit=heads.unit_prototypes)
        dino = sinkhorn(scores, heads.teacher_temperature).unflatten(0, (views, images))
    own = tokens(student.backbone, crops, masks, student.mask_token)
    local = tokens(student.backbone, batch.locals.flatten(0, 1))[:, 0]
    globals_ = logits(student.dino_head, own[:, 0], unit=heads.unit_prototypes).unflatten(0, (views, images))
    locals_ = logits(student.dino_head, local, unit=heads.unit_prototypes).unflatten(0, batch.locals.shape[:2])
    heat = heads.student_temperature
    crossed = [cross_entropy(globals_[0], dino[1], heat), cross_entropy(globals_[1], dino[0], heat)]
    pairs = [cross_entropy(one, target, heat) for one in locals_ for target in dino]
    terms = {
        "dino_global": torch.stack(crossed).mean(),
        "dino_local": torch.stack(pairs).mean(),
        "koleo": torch.stack([koleo(one) for one in own[:, 0].unflatten(0, (views, images))]).mean(),
    }
    share = 2 / (2 + 2 * len(batch.locals))
    factors = {"dino_global": share, "dino_local": 1 - share, "koleo": 0.2}
    if heads.ibot_weight > 0:
        terms["ibot"] = ibot(plain, own[:, prefix:][masks], seen[:, prefix:][masks], masks)
        factors["ibot"] = heads.ibot_weight
    if plain.gram_teacher is not None:
        terms["gram"] = gram(own[:, prefix:], anchored_to(plain.gram_teacher, batch, own.shape[1] - prefix))
        factors["gram"] = heads.gram_weight
    return terms, factors


def ibot(plain: Plain, student: Tensor, teacher: Tensor, masks: Tensor) -> Tensor:
    """Of masked patches: the mean of each crop, then over all crops."""
    heads = plain.heads
    with torch.no_grad():
        scores = logits(plain.teacher.ibot_head, teacher, unit=heads.unit_prototypes)
        targets = sinkhorn(scores, heads.teacher_temperature)
    scores = logits(plain.student.ibot_head, student, unit=heads.unit_prototypes)
    shares = (1 / (masks.sum(1).clamp(min=1) * len(masks)))[:, None].expand_as(masks)[masks]
    return (cross_entropy(scores, targets, heads.student_temperature) * shares).sum()


@torch.no_grad()
def anchored_to(teacher: Any, batch: Any, wanted: int) -> Tensor:
    """The Gram teacher's patches, on the student's grid."""
    crops = batch.globals if batch.gram is None else batch.gram
    patches = tokens(teacher, crops.flatten(0, 1))[:, teacher.num_prefix_tokens :]
    if patches.shape[1] == wanted:
        return patches
    side, target = (round(count**0.5) for count in (patches.shape[1], wanted))
    grid = patches.transpose(1, 2).unflatten(2, (side, side)).float()
    return F.interpolate(grid, (target, target), mode="bicubic").flatten(2).transpose(1, 2)
