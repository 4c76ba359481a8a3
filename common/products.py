"""Matrix products of float32 on a CPU, by whichever of torch's two libraries is the fast one there.

torch takes oneMKL, which gives processors of other makers its kernels of 256 bits: on one with units of 512 it runs at
half of what oneDNN, which torch brings along too, makes of the same product (benchmarks/products.py). Which of them is
taken is the same in a run that goes on: it depends on the processor, on how torch was built, on variables that narrow
torch's units (`ATEN_CPU_CAPABILITY`), and on type and shape of the product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode, handle_torch_function, has_torch_function

from common.machine import cpu_maker

LEAST = 2**19  # multiplications from which on a call of oneDNN, some 10 µs, is worth it
TURNED = 2**22  # numbers of a matrix up to which it is turned around in the caches


@cache
def onednn_is_faster() -> bool:
    """Whether this processor is one to which oneMKL gives narrower kernels than it has units for."""
    here = torch.backends.mkldnn.is_available() and torch.backends.mkl.is_available()
    wide = torch.backends.cpu.get_cpu_capability() == "AVX512"
    return here and wide and cpu_maker() not in ("GenuineIntel", "") and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def is_transformed() -> bool:
    """Whether `torch.func` transforms what is called now: no function of autograd can be, unless it says how."""
    return torch._C._are_functorch_transforms_active()


def fast_linear() -> AbstractContextManager[object]:
    """Inside the block `F.linear`, and so every linear layer, takes the fast library where there is one."""
    return _FastLinear() if onednn_is_faster() else nullcontext()


def times_transposed(x: Tensor, y: Tensor) -> Tensor:
    """x · yᵀ of [..., d] and a matrix [m, d] to [..., m]; without gradient."""
    return by_onednn(x, y) if _fits(x, y, None) else x @ y.T


class _FastLinear(TorchFunctionMode):
    """Takes the place of `F.linear` where its arguments fit."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if not torch.is_autocast_enabled("cpu"):
            if func is F.linear:
                return _linear(*args, **(kwargs or {}))
            if func is gelu_of_linear and _fits(*args):
                return torch.ops.mkldnn._linear_pointwise(*args, "gelu", [], "none")
        return func(*args, **(kwargs or {}))


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """As `F.linear`, with its names of arguments."""
    return _Linear.apply(input, weight, bias) if _fits(input, weight, bias) else F.linear(input, weight, bias)


def _fits(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether a product is one of float32 on the CPU, of matrices, and large enough; all else is torch's to take."""
    if not onednn_is_faster() or is_transformed():
        return False
    given = (x, weight) if bias is None else (x, weight, bias)
    if any(one.device.type != "cpu" or one.dtype != torch.float32 for one in given):
        return False
    fit = x.ndim >= 2 and weight.ndim == 2 and x.shape[-1] == weight.shape[1]
    return fit and (bias is None or bias.shape == weight.shape[:1]) and prod(x.shape) * len(weight) >= LEAST


def by_onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x · weightᵀ + bias of float32 on the CPU, [..., d] and [m, d] to [..., m], by oneDNN; without gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")


def gelu_of_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The exact GELU of x · weightᵀ + bias, [..., d] and [m, d] to [..., m]; without gradient.

    Inside `fast_linear` it is one pass, where that is taken.
    """
    if not torch.compiler.is_compiling() and has_torch_function((x, weight)):
        return handle_torch_function(gelu_of_linear, (x, weight), x, weight, bias)
    return F.gelu(F.linear(x, weight, bias))


class _Linear(torch.autograd.Function):
    """x · weightᵀ + bias, and its gradients, by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return by_onednn(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight = ctx.saved_tensors
        return gradients_of_linear(grad_outputs[0], x, weight, ctx.needs_input_grad)


def gradients_of_linear(
    grad: Tensor, x: Tensor, weight: Tensor, asked: Sequence[bool] = (True, True, True)
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Of x [..., d], weight [m, d] and bias [m], by that of x · weightᵀ + bias [..., m]; None where not asked for."""
    rows = grad.flatten(0, -2)
    of_x = times_transposed(grad, weight.T) if asked[0] else None
    of_weight = gradient_of_weight(rows, x.flatten(0, -2)) if asked[1] else None
    return of_x, of_weight, rows.sum(0) if asked[2] else None


def gradient_of_weight(grad: Tensor, x: Tensor) -> Tensor:
    """gradᵀ · x [n, m] of matrices [r, n] and [r, m], laid out as a weight is: autograd would copy it for that.

    With more columns last the product is faster by up to two thirds; to turn a large one around takes longer than that.
    """
    if not _fits(x.T, grad.T, None):
        return grad.T @ x
    rows, columns = grad.shape[1], x.shape[1]
    if rows <= columns or rows * columns > TURNED:
        return by_onednn(grad.T, x.T)
    return by_onednn(x.T, grad.T).T.contiguous()
