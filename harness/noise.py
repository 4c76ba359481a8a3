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
    """One block's noise: a RoPE draw, and the crops that its attention and its MLP branch compute; None means all."""

    rope: RopeDraw | None
    attention: Int[Tensor, " kept"] | None
    mlp: Int[Tensor, " kept"] | None


Draws = list[BlockDraw]


def student_noise(seed: int, step: int, batch: Batch, settings: Experiment, *, depth: int) -> dict[str, Draws]:
    """Noise for the student's two forwards, "global" and "local", each block its own draw (recipe §1.5, §1.6)."""
    crops = {"global": batch.globals, "local": batch.locals}
    return {
        kind: [_block_draw(seed, step, f"{kind}/{block}", images, settings.model) for block in range(depth)]
        for kind, images in crops.items()
    }


def _block_draw(seed: int, step: int, place: str, images: Tensor, model: Model) -> BlockDraw:
    rng = draws.philox(seed, step, f"rope/{place}")
    rope = draw_rope(rng, shift=model.rope_shift, jitter=model.rope_jitter, rescale=model.rope_rescale)
    crops = images.shape[0] * images.shape[1]
    attention, mlp = (
        kept_crops(seed, step, f"drop_path/{place}/{branch}", crops=crops, rate=model.drop_path)
        for branch in ("attention", "mlp")
    )
    return BlockDraw(rope, *(None if kept is None else kept.to(images.device) for kept in (attention, mlp)))


def kept_crops(seed: int, step: int, purpose: str, *, crops: int, rate: float) -> Int[Tensor, " kept"] | None:
    """Indices of the max(⌊n(1−rate)⌋, 1) crops that a residual branch computes; None keeps all."""
    if rate == 0 or crops == 0:
        return None
    order = draws.uniforms(seed, step, purpose, crops).argsort()
    return torch.from_numpy(order[: max(int(crops * (1 - rate)), 1)]).sort().values
