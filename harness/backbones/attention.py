"""Attention over the tokens of a crop, queries and keys turned by its rotary positions, in few passes.

Shapes: B crops, N tokens, H heads of width d.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

CACHED = 2**20  # bytes of float32 scores that a core works on at a time


def attended(
    qkv: Float[Tensor, "B N 3 H d"], sin: Float[Tensor, "N 1 1 d"], cos: Float[Tensor, "N 1 1 d"]
) -> Float[Tensor, "B N H d"]:
    """softmax(q kᵀ / √d) v of queries and keys turned by angles, the softmax in float32 or wider (1706.03762 §3.2.1).

    torch's kernel, but in bfloat16 on a CPU: that one takes 2 to 18 times as long there as products of whole matrices,
    most of it on the way back. Scores are then computed for a few crops at a time, and again on the way back, and are
    rounded to bfloat16 before the softmax, which adds a quarter to the rounding of that kernel.
    """
    compiling = torch.compiler.is_compiling()  # which writes gradients by itself
    if qkv.device.type == "cpu" and qkv.dtype == torch.bfloat16 and not compiling:
        return _Attended.apply(qkv, sin, cos)  # pyright: ignore[reportReturnType]
    turned: Any = (_turned if compiling else _Turned.apply)(qkv, sin, cos)
    q, k, v = (heads.transpose(1, 2) for heads in turned.unbind(2))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


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


def _turn(x: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """The halves of each head against one another: (x₁ cos − x₂ sin, x₂ cos + x₁ sin), in the wider of both types, as
    timm does it."""
    half = x.shape[-1] // 2
    wide = x.to(torch.promote_types(x.dtype, cos.dtype))
    y = wide * cos
    y[..., :half].addcmul_(wide[..., half:], sin[..., :half], value=-1)
    y[..., half:].addcmul_(wide[..., :half], sin[..., half:])
    return y.to(x.dtype)
