"""Attention over the tokens of a crop, queries and keys turned by its rotary positions, in few passes.

Shapes: B crops, N tokens, H heads of width d.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import e, log2
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from common.on_meta import fused_attention
from common.products import is_transformed, onednn_is_faster, times_transposed

CACHED = 2**20  # bytes of float32 scores that a core works on at a time
LONG = 384  # tokens from which on a product for each head by itself pays its call
SCORES = 2**20  # scores of a head that are computed at a time, of so many queries as this makes
SAFE = 100.0  # exponents of two up to which, and down to minus which, float32 holds a sum of powers


def attended(
    qkv: Float[Tensor, "B N 3 H d"], sin: Float[Tensor, "N 1 1 d"], cos: Float[Tensor, "N 1 1 d"]
) -> Float[Tensor, "B N H d"]:
    """softmax(q kᵀ / √d) v of queries and keys turned by angles, the softmax in float32 or wider (1706.03762 §3.2.1).

    torch's kernel, but in bfloat16 on a CPU: that one takes 2 to 18 times as long there as products of whole matrices,
    most of it on the way back. Scores are then computed for a few crops at a time, and again on the way back, and are
    rounded to bfloat16 before the softmax, which adds a quarter to a half to the rounding of that kernel. Many tokens
    without gradient, as a high-resolution Gram teacher's, are taken head by head.
    """
    compiling = torch.compiler.is_compiling()  # which writes gradients by itself
    if not compiling and _is_taken_by_heads(qkv):
        return _by_heads(qkv, sin, cos)
    if qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16 and not compiling:
        return _Attended.apply(qkv, sin, cos)  # pyright: ignore[reportReturnType]
    turned: Any = (_turned if compiling else _Turned.apply)(qkv, sin, cos)
    q, k, v = (heads.transpose(1, 2) for heads in turned.unbind(2))
    if qkv.is_meta:
        return fused_attention(q, k, v).transpose(1, 2)
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


def _is_taken_by_heads(qkv: Tensor) -> bool:
    """Whether it pays and can be: in float32 where torch's kernel multiplies by the slow library (common/products.py).

    No gradient goes through, and nothing is transformed (`torch.func`).
    """
    if qkv.device.type != "cpu" or qkv.requires_grad or is_transformed():
        return False
    fast = qkv.dtype == torch.bfloat16 or (qkv.dtype == torch.float32 and onednn_is_faster())
    return fast and qkv.shape[1] >= LONG


def _by_heads(qkv: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """As `attended`, without gradient."""
    _, tokens, _, heads, width = qkv.shape
    y = torch.empty_like(qkv[:, :, 0])
    to_powers = sin.new_tensor([log2(e) * width**-0.5, 1]).view(2, 1, 1)  # of two, by what queries are turned with
    sin, cos = ((angles * to_powers).permute(1, 2, 0, 3).contiguous() for angles in (sin, cos))
    room = sin.new_empty(2, heads, tokens, width)
    for crop, into in zip(qkv.permute(0, 2, 3, 1, 4), y, strict=True):
        q, k = _turn(crop[:2], sin, cos, room)
        v = crop[2].contiguous()
        is_safe = bool((q.norm(dim=-1).amax(1) * k.norm(dim=-1).amax(1)).max() <= SAFE)  # |q·k| is at most that
        for head in range(heads):
            by = k[head], v[head].T
            for first in range(0, tokens, step := max(1, SCORES // tokens)):
                into[first : first + step, head] = _of_queries(q[head, first : first + step], *by, is_safe)
    return y


def _of_queries(q: Float[Tensor, "n d"], k: Float[Tensor, "N d"], v: Float[Tensor, "d N"], is_safe: bool) -> Tensor:
    """Values weighted by shares of powers of two, [n, d]; the largest power of a query is 1 unless all are safe."""
    powers = times_transposed(q, k).float()
    if not is_safe:
        powers -= powers.amax(-1, keepdim=True)
    powers.exp2_()
    return times_transposed(powers.div_(powers.sum(-1, keepdim=True)).to(q.dtype), v)


class _Attended(torch.autograd.Function):
    """As `attended`, crops that fit the caches at a time; of a step no more is kept than what went in and came out."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
        y = torch.empty_like(qkv[:, :, 0])
        for part in _parts(qkv):
            q, k, v = _heads(qkv[part], sin, cos)
            y[part] = (_probabilities(q, k).to(q.dtype) @ v).transpose(1, 2)
        ctx.save_for_backward(qkv, sin, cos, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        qkv, sin, cos, y = ctx.saved_tensors
        found = torch.empty_like(qkv)
        for part in _parts(qkv):
            q, k, v = _heads(qkv[part], sin, cos)
            by, p = grad_outputs[0][part].transpose(1, 2), _probabilities(q, k)
            found[part, :, 2] = (p.to(q.dtype).mT @ by).transpose(1, 2)
            slope = (by @ v.mT).float()
            mean = (by.float() * y[part].transpose(1, 2).float()).sum(-1, keepdim=True)
            slope = slope.sub_(mean).mul_(p).mul_(q.shape[-1] ** -0.5).to(q.dtype)
            turned = torch.stack([slope @ k, slope.mT @ q]).permute(1, 3, 0, 2, 4)
            found[part, :, :2] = _turn(turned, -sin, cos)
        return found, None, None


def _heads(qkv: Tensor, sin: Tensor, cos: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Turned queries, turned keys and values, [B, H, N, d] each."""
    q, k = _turn(qkv[:, :, :2], sin, cos).unbind(2)
    return q.transpose(1, 2), k.transpose(1, 2), qkv[:, :, 2].transpose(1, 2)


def _probabilities(q: Tensor, k: Tensor) -> Tensor:
    """Of each key for each query, in float32."""
    return (q @ k.mT).float().mul_(q.shape[-1] ** -0.5).softmax(-1)


def _parts(qkv: Tensor) -> Iterator[slice]:
    """All crops, as many at a time as have their scores in the caches."""
    crops, tokens, _, heads, _ = qkv.shape
    step = max(1, CACHED * torch.get_num_threads() // (4 * heads * tokens**2))
    return (slice(first, first + step) for first in range(0, crops, step))


class _Turned(torch.autograd.Function):
    """Queries and keys turned, beside the values, so that of a step only these are kept; angles get no gradient.

    The gradient turns back by −sin, which is right only where both halves have the same sines, as timm's angles have.
    """

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
        ctx.save_for_backward(sin, cos)
        return _turned(qkv, sin, cos)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        sin, cos = ctx.saved_tensors
        return _turned(grad_outputs[0], -sin, cos), None, None


def _turned(qkv: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    return torch.cat((_turn(qkv[:, :, :2], sin, cos), qkv[:, :, 2:]), 2)


def _turn(x: Tensor, sin: Tensor, cos: Tensor, room: Tensor | None = None) -> Tensor:
    """The halves of each head against one another: (x₁ cos − x₂ sin, x₂ cos + x₁ sin), in the wider of both types, as
    timm does it; computed in `room` where there is one."""
    half = x.shape[-1] // 2
    wide = x.to(torch.promote_types(x.dtype, cos.dtype))
    y = torch.mul(wide, cos, out=room)
    y[..., :half].addcmul_(wide[..., half:], sin[..., :half], value=-1)
    y[..., half:].addcmul_(wide[..., :half], sin[..., half:])
    return y.to(x.dtype)
