"""The student's noise: RoPE draws and batch-wise stochastic depth, functions of (seed, step, block) alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from common import draws
from harness.data.batches import Batch
from harness.recipe import Model
from harness.rope import RopeDraw, draw_rope
from harness.settings import Experiment


class BlockDraw(NamedTuple):
    """One block's noise: a RoPE draw, and the crops that its attention and its MLP branch compute; None means all.

    factor: of what a branch gives for these, all crops of the step over those of them that are computed; None where
    all are here, and it can be counted.
    """

    rope: RopeDraw | None
    attention: Int[Tensor, " kept"] | None
    mlp: Int[Tensor, " kept"] | None
    factor: float | None = None


Draws = list[BlockDraw]


def student_noise(seed: int, step: int, batch: Batch, settings: Experiment, *, depth: int) -> dict[str, Draws]:
    """Noise for the student's two forwards, "global" and "local", each block its own draw (recipe §1.5, §1.6).

    What is drawn belongs to the step's whole batch, whichever part of it is here.
    """
    crops = {"global": batch.globals, "local": batch.locals}
    return {
        kind: [_block_draw(seed, step, f"{kind}/{block}", images, batch, settings.model) for block in range(depth)]
        for kind, images in crops.items()
    }


def _block_draw(seed: int, step: int, place: str, images: Tensor, batch: Batch, model: Model) -> BlockDraw:
    rng = draws.philox(seed, step, f"rope/{place}")
    rope = draw_rope(rng, shift=model.rope_shift, jitter=model.rope_jitter, rescale=model.rope_rescale)
    (views, here), whole = images.shape[:2], len(batch.indices)
    attention, mlp = (
        kept_crops(seed, step, f"drop_path/{place}/{branch}", crops=views * whole, rate=model.drop_path)
        for branch in ("attention", "mlp")
    )
    if attention is None or mlp is None:
        return BlockDraw(rope, None, None)
    of_part = [crops_of_part(kept, batch.first, here, whole).to(images.device) for kept in (attention, mlp)]
    return BlockDraw(rope, *of_part, factor=views * whole / len(attention))


def crops_of_part(kept: Int[Tensor, " n"], first: int, here: int, whole: int) -> Int[Tensor, " kept"]:
    """Of crops of a whole batch those of the images `first` … `first + here` of its `whole`, as indices into theirs."""
    view, image = kept // whole, kept % whole - first
    return (view * here + image)[(image >= 0) & (image < here)]


def kept_crops(seed: int, step: int, purpose: str, *, crops: int, rate: float) -> Int[Tensor, " kept"] | None:
    """Indices of the max(⌊n(1−rate)⌋, 1) crops that a residual branch computes; None keeps all."""
    if rate == 0 or crops == 0:
        return None
    order = draws.uniforms(seed, step, purpose, crops).argsort()
    return torch.from_numpy(order[: max(int(crops * (1 - rate)), 1)]).sort().values
