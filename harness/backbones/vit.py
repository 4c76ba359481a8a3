"""What training asks of a backbone, and how timm's vision transformers give it: positions, prefix tokens, branches.

The contract, on which `harness.model.encode` walks: a patch embedding that gives one grid; learned positions (a table,
resampled for every other grid), rotary ones, or both; class token and registers in front, or none; blocks of an
attention and an MLP, each a residual branch of its own, so that both can be skipped by crops; a final norm.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias, cast

import torch
from jaxtyping import Float
from timm.layers.patch_embed import PatchEmbed
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.layers.pos_embed_sincos import RotaryEmbeddingCat, RotaryEmbeddingDinoV3
from timm.models.eva import Eva, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from harness.backbones import eva
from harness.backbones.compiled import branch
from harness.rope import RopeDraw, rope_table

Vit: TypeAlias = VisionTransformer | Eva
Grid: TypeAlias = tuple[int, int]
Rope: TypeAlias = Float[Tensor, "P R"] | None  # sines and cosines of every patch, as timm's attention takes them
Branch: TypeAlias = Callable[[Tensor], Tensor]

# Where a backbone in training keeps what its rotary positions are computed in; copies of it have the same
ROPE_DTYPE = "gramlab_rope_dtype"

# What a vision transformer has, by the name that timm gives it
PARTS = {
    "patch_embed": "an embedding of patches",
    "num_prefix_tokens": "tokens of all patches in one row",
    "blocks": "one list of blocks",
    "norm": "a final norm",
}


def lacking(model: nn.Module) -> str | None:
    """What a model lacks of the contract, in words; None where it fulfils it."""
    kind, body = type(model).__name__, cast(Any, model)
    if type(model) not in (VisionTransformer, Eva):
        gone = [words for part, words in PARTS.items() if not hasattr(model, part)]
        return f"timm's {kind} lacks {', '.join(gone)}" if gone else f"timm's {kind} places tokens by code of its own"
    if type(body.patch_embed) is not PatchEmbed:
        return f"its patches come from a {type(body.patch_embed).__name__}, not from one convolution"
    if strange := {type(block).__name__ for block in body.blocks if type(block) not in (Block, EvaBlock)}:
        return f"its blocks are {', '.join(sorted(strange))}, not an attention and an MLP behind norms of their own"
    rope = getattr(body, "rope", None)
    if rope is not None and type(rope) not in (RotaryEmbeddingCat, RotaryEmbeddingDinoV3):
        return f"its rotary positions, {type(rope).__name__}, are not the same in all blocks"
    return None


def has_drawn_rope(backbone: nn.Module) -> bool:
    """Whether its positions are DINOv3's rotary ones, which `model.rope_shift`, `_jitter` and `_rescale` draw anew."""
    return isinstance(getattr(backbone, "rope", None), RotaryEmbeddingDinoV3)


def with_prefix(backbone: Vit, patches: Float[Tensor, "B P D"], grid: Grid) -> Float[Tensor, "B T D"]:
    """Class token and registers in front of the patches, and learned positions added, where there are any."""
    tokens = (backbone.cls_token, backbone.reg_token)
    prefix = [t.expand(len(patches), -1, -1).to(patches.dtype) for t in tokens if t is not None]
    table = positions(backbone, grid)
    if table is None:
        return torch.cat([*prefix, patches], dim=1)
    table = table.to(patches.dtype)
    if backbone.no_embed_class:  # the table is of patches alone
        return torch.cat([*prefix, patches + table], dim=1)
    return torch.cat([*prefix, patches], dim=1) + table


def positions(backbone: Vit, grid: Grid) -> Float[Tensor, "1 N D"] | None:
    """The learned positions for a grid of patches, resampled as timm does; None where there is no table."""
    if backbone.pos_embed is None:
        return None
    return resample_abs_pos_embed(
        backbone.pos_embed,
        new_size=list(grid),
        old_size=list(cast(Any, backbone.patch_embed).grid_size),
        num_prefix_tokens=0 if backbone.no_embed_class else backbone.num_prefix_tokens,
    )


def rotary(backbone: Vit, grid: Grid, draw: RopeDraw | None = None) -> Rope:
    """The rotary positions of a grid, with a draw for DINOv3's; None where there are none."""
    rope = cast(Any, getattr(backbone, "rope", None))
    if rope is None:
        return None
    if not has_drawn_rope(backbone):
        return rope.get_embed(shape=list(grid))
    return rope_table(rope.periods, grid, draw, dtype=getattr(backbone, ROPE_DTYPE, torch.float32))


def branches(block: nn.Module, rope: Rope, *, compiled: bool = False) -> tuple[Branch, Branch]:
    """What attention and MLP of a block add to the tokens, each with its norm before and its LayerScale behind it."""
    is_eva = isinstance(block, EvaBlock)
    attention, mlp, more = (eva.attention, eva.mlp, {"rope": rope}) if is_eva else (_attention, _mlp, {})
    if compiled:
        attention, mlp = partial(branch, attention), partial(branch, mlp)
    return partial(attention, block, **more), partial(mlp, block)


def _attention(block: Any, x: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
    return block.ls1(block.attn(block.norm1(x)))


def _mlp(block: Any, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    return block.ls2(block.mlp(block.norm2(x)))


def layer_scale(backbone: Vit) -> float | None:
    """Where LayerScale starts; None where there is none."""
    first = cast(Any, backbone.blocks[0])
    return first.init_values if isinstance(first, EvaBlock) else getattr(first.ls1, "init_values", None)
