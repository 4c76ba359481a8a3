"""Linear layers behind a norm or an activation, of which a step in training keeps what went in alone.

What is cheap to compute is computed again on the way back, to the same bits, rather than kept: the tokens behind a
LayerNorm, those behind a GELU, four times as wide, and weights times LayerScale: a third of all that a block keeps.
Shapes: D channels, H of a layer's outputs.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from common.products import gradients_of_linear, is_transformed


def is_taken(x: Tensor) -> bool:
    """Whether it pays and can be: a gradient is asked for, by autograd itself, and nothing is rounded on the way.

    On the meta device, which knows no autocast, that of the CPU tells (`harness.forward.autocast`).
    """
    if not torch.is_grad_enabled() or torch.is_autocast_enabled("cpu" if x.is_meta else x.device.type):
        return False
    return not torch.compiler.is_compiling() and not is_transformed()


def linear_of_norm(x: Float[Tensor, "... D"], norm: nn.LayerNorm, weight: Tensor, bias: Tensor | None) -> Tensor:
    """W LayerNorm(x) + b, [..., H]."""
    return _LinearOfNorm.apply(x, norm.weight, norm.bias, norm.eps, weight, bias)  # pyright: ignore[reportReturnType]


def scaled_linear_of_gelu(
    x: Float[Tensor, "... D"], weight: Float[Tensor, "H D"], bias: Float[Tensor, " H"], gamma: Float[Tensor, " H"]
) -> Float[Tensor, "... H"]:
    """γ ⊙ (W GELU(x) + b), by the exact GELU."""
    given = x, gamma[:, None] * weight, gamma * bias, weight.detach(), gamma.detach()
    return _LinearOfGelu.apply(*given)  # pyright: ignore[reportReturnType]


class _LinearOfNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, eps: float, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        normed, mean, rstd = torch.native_layer_norm(x, x.shape[-1:], scale, shift, eps)
        ctx.save_for_backward(x, scale, shift, mean, rstd, weight)
        ctx.eps = eps
        return F.linear(normed, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, scale, shift, mean, rstd, weight = ctx.saved_tensors
        width, asked = x.shape[-1:], ctx.needs_input_grad
        normed = torch.native_layer_norm(x, width, scale, shift, ctx.eps)[0]
        of_normed, of_weight, of_bias = gradients_of_linear(grad_outputs[0], normed, weight, (True, *asked[4:]))
        of_norm = torch.ops.aten.native_layer_norm_backward(of_normed, x, width, mean, rstd, scale, shift, asked[:3])
        return *of_norm, None, of_weight, of_bias


class _LinearOfGelu(torch.autograd.Function):
    """W GELU(x) + b, where W is γ ⊙ V and is computed again by these."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, unscaled: Tensor, gamma: Tensor) -> Tensor:
        ctx.save_for_backward(x, unscaled, gamma)
        return F.linear(F.gelu(x), weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, unscaled, gamma = ctx.saved_tensors
        of_gelu, *of_layer = gradients_of_linear(grad_outputs[0], F.gelu(x), gamma[:, None] * unscaled)
        return torch.ops.aten.gelu_backward(of_gelu, x), *of_layer, None, None
