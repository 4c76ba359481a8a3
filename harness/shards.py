"""Networks of which every process holds a part, by FSDP2: torch's `fully_shard` (arXiv 2304.11277).

A block's weights are gathered while it is computed, and its gradients go back where they belong. torch's FSDP is
imported where a network is cut, as that takes half a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from timm.models._manipulate import reinit_non_persistent_buffers
from torch import Tensor, nn

from common.ranks import Ranks

T = TypeVar("T")
N = TypeVar("N", bound=nn.Module)
_WHOLE = "gathered_for"  # the method of a cut module in which its weights are whole


def within(module: nn.Module, function: Callable[..., T], *inputs: Tensor) -> T:
    """What a function of the inputs is, in which the module's own weights are whole.

    Weights of a part that was cut by itself are so within that part alone. What the way back needs of them is
    gathered again then; for that, tensors with a gradient that go into a part are `inputs`.
    """
    gathered = getattr(module, _WHOLE, None)
    return function(*inputs) if gathered is None else gathered(function, *inputs)


def is_cut(module: nn.Module) -> bool:
    """Whether each process holds a part of the module's own weights."""
    return hasattr(module, _WHOLE)


def made(make: Callable[[], N], parts: Callable[[N], Iterable[nn.Module]], device: torch.device, *, trained: bool) -> N:
    """A network that is cut over all processes, its weights not filled; no process ever holds it whole.

    Args:
        make: makes the network, on the meta device.
        parts: those whose weights are gathered one after the other; what they leave is gathered for all of a pass.
        trained: in training mode and with gradients; else frozen.
    """
    with torch.device("meta"):
        network = make().requires_grad_(trained).train(trained)
    _cut(network, parts(network), device, trained=trained)
    return _placed(network, device)


def unfilled(make: Callable[[], N]) -> N:
    """A whole network on the CPU, its weights not filled and no time spent on random ones."""
    with torch.device("meta"):
        network = make()
    return _placed(network, torch.device("cpu"))


def _placed(network: N, device: torch.device) -> N:
    network.to_empty(device=device)
    reinit_non_persistent_buffers(network)  # which no state holds
    return network


def _cut(network: nn.Module, parts: Iterable[nn.Module], device: torch.device, *, trained: bool) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    if device.type == "cuda":
        torch.cuda.set_device(device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for module in (*parts, network):
        kept = trained and module is network  # the way back begins with what was whole last
        fully_shard(module, mesh=mesh, reshard_after_forward=not kept)
        setattr(module, _WHOLE, MethodType(_called, module))
        register_fsdp_forward_method(module, _WHOLE)
        if module is not network:  # all but one of the processes may have no crop for a branch of a block
            module.set_reduce_scatter_unused_params(True)  # pyright: ignore[reportCallIssue]


def _called(module: nn.Module, function: Callable[..., Any], *inputs: Tensor) -> Any:
    found = function(*inputs)
    return found.clone() if any(found is one for one in inputs) else found  # torch wants no view of what goes in


# --- tensors


def own(tensor: Tensor) -> Tensor:
    """This process's part of a tensor, in the same memory; of one that is not cut all of it."""
    part = getattr(tensor, "_local_tensor", None)
    return tensor if part is None else part


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor, by all processes at once."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor  # pyright: ignore


def fill(tensors: Mapping[str, Tensor], given: Mapping[str, Tensor] | None, ranks: Ranks) -> None:
    """Give each process its part of tensors that the first one has whole, one after the other.

    given: what the first process has, by the same names; None in all others.
    """
    with torch.no_grad():
        for name, tensor in tensors.items():
            _fill(tensor, None if given is None else given[name], ranks)


def _fill(tensor: Tensor, given: Tensor | None, ranks: Ranks) -> None:
    part = own(tensor)
    if part is tensor:
        if given is not None:
            tensor.copy_(given)
        ranks.given([tensor])
        return
    rows = -(-len(tensor) // ranks.world)  # of a part, but for the last ones
    mine, parts = part.new_empty(rows, *tensor.shape[1:]), None
    if given is not None:
        padded = part.new_zeros(rows * ranks.world, *tensor.shape[1:])
        padded[: len(given)] = given
        parts = [*padded.split(rows)]
    dist.scatter(mine, parts)
    part.copy_(mine[: len(part)])


def gathered(tensors: Mapping[str, Tensor], ranks: Ranks) -> dict[str, Tensor]:
    """Whole tensors on the CPU for the first process, by all of them, one after the other; nothing for the others."""
    found = dict[str, Tensor]()
    for name, tensor in tensors.items():
        one = whole(tensor.detach())
        if ranks.first:
            found[name] = one.cpu()
    return found


class _Touched(torch.autograd.Function):
    """As `touched`."""

    @staticmethod
    def forward(ctx: Any, total: Tensor, *weights: Tensor) -> Tensor:
        ctx.shapes = [(weight.shape, weight.dtype, weight.device) for weight in weights]
        return total.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        zeros = (torch.zeros(shape, dtype=dtype, device=device) for shape, dtype, device in ctx.shapes)
        return grad_outputs[0], *zeros


def touched(total: Tensor, weights: Iterable[Tensor]) -> Tensor:
    """The total, on which weights that other processes use have gradients of zero, so that all add up the same ones."""
    return _Touched.apply(total, *weights)
