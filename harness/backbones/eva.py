"""The branches of timm's `EvaBlock`, of which DINOv3's backbones are made, in fewer passes over the tokens.

Queries and keys are turned together, and LayerScale is taken into the last product of a branch, whose gradient then
gives its own. What a block has besides is left to timm's modules.
Shapes: B crops, N tokens of which the first are no patches, D channels, heads of width d, P patches.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers.mlp import Mlp
from timm.layers.norm import LayerNorm
from timm.models.eva import EvaAttention
from torch import Tensor, nn

from common.products import gelu_of_linear
from harness.backbones import lean
from harness.backbones.attention import attended


def attention(block: Any, x: Float[Tensor, "B N D"], rope: Float[Tensor, "P 2*d"] | None) -> Float[Tensor, "B N D"]:
    """What the attention of a block adds to its tokens."""
    one = block.attn
    if rope is None or not _is_plain_attention(one):
        return _scaled(block.gamma_1, one(block.norm1(x), rope=rope))
    bias = one.qkv.bias if one.q_bias is None else torch.cat((one.q_bias, one.k_bias, one.v_bias))
    qkv = _behind_norm(block.norm1, x, one.qkv.weight, bias).unflatten(-1, (3, one.num_heads, -1))
    y = attended(qkv, *_angles(rope, one.num_prefix_tokens)).flatten(2)
    return _scaled_linear(block.gamma_1, one.proj, y)


def mlp(block: Any, x: Float[Tensor, "... D"]) -> Float[Tensor, "... D"]:
    """What the MLP of a block adds to its tokens."""
    one = block.mlp
    if not _is_plain_mlp(one):
        return _scaled(block.gamma_2, one(block.norm2(x)))
    exact = _is_exact_gelu(one.act)
    if exact and not torch.is_grad_enabled():
        x = gelu_of_linear(block.norm2(x), one.fc1.weight, one.fc1.bias)
        return _scaled_linear(block.gamma_2, one.fc2, x)
    x = _behind_norm(block.norm2, x, one.fc1.weight, one.fc1.bias)
    if block.gamma_2 is None or one.fc2.bias is None or not exact or not lean.is_taken(x):
        return _scaled_linear(block.gamma_2, one.fc2, one.act(x))
    return lean.scaled_linear_of_gelu(x, one.fc2.weight, one.fc2.bias, block.gamma_2)


def _is_plain_attention(one: Any) -> bool:
    """Whether queries, keys and values are one product, turned by halves, and nothing else happens to them."""
    if type(one) is not EvaAttention or one.qkv is None or one.qkv_bias_separate or one.gate is not None:
        return False
    idle = all(type(part) is nn.Identity for part in (one.q_norm, one.k_norm, one.norm))
    return idle and one.fused_attn and one.rotate_half and not one.attn_drop.p and not one.proj_drop.p


def _is_plain_mlp(one: Any) -> bool:
    """Whether it is two linear layers around an activation."""
    return type(one) is Mlp and type(one.norm) is nn.Identity and not one.drop1.p and not one.drop2.p


def _is_exact_gelu(one: Any) -> bool:
    return isinstance(one, nn.GELU) and one.approximate == "none"


def _behind_norm(norm: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W norm(x) + b."""
    if type(norm) in (LayerNorm, nn.LayerNorm) and norm.bias is not None and lean.is_taken(x):
        return lean.linear_of_norm(x, norm, weight, bias)
    return F.linear(norm(x), weight, bias)


def _scaled(gamma: Tensor | None, y: Tensor) -> Tensor:
    return y if gamma is None else gamma * y


def _scaled_linear(gamma: Tensor | None, layer: nn.Linear, x: Tensor) -> Tensor:
    """γ ⊙ (W x + b) as one product, in γ's type: under autocast, too, tokens add up in float32."""
    if gamma is None:
        return layer(x)
    bias = None if layer.bias is None else gamma * layer.bias
    return F.linear(x, gamma[:, None] * layer.weight, bias).to(gamma.dtype)


def _angles(rope: Float[Tensor, "P 2*d"], prefix: int) -> tuple[Float[Tensor, "N 1 1 d"], Float[Tensor, "N 1 1 d"]]:
    """Sines and cosines for all tokens; those that are no patches are not turned."""
    sin, cos = (
        F.pad(part, (0, 0, prefix, 0), value=fill) for part, fill in zip(rope.chunk(2, -1), (0, 1), strict=True)
    )
    return sin[:, None, None], cos[:, None, None]
