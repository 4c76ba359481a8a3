"""The processes that share work under `torchrun`: which of it is whose, and how they come to agree."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from common.errors import BadInput

T = TypeVar("T")
PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Ranks:
    """This process and how many there are; all of them see the same files."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes what belongs to all."""
        return self.rank == 0

    def own(self, count: int) -> range:
        """Which of `count` pieces of work are this process's."""
        return range(self.rank, count, self.world)

    def agreed(self, value: T) -> T:
        """What the first process has."""
        if self.world == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held)
        return held[0]

    def gathered(self, value: T) -> list[T]:
        """What every process has, in their order."""
        if self.world == 1:
            return [value]
        held: list[Any] = [None] * self.world
        dist.all_gather_object(held, value)
        return held

    def summed(self, x: Tensor) -> Tensor:
        """The sum over all processes, in place for a tensor on the CPU."""
        if self.world > 1:
            on_cpu = x.cpu()
            dist.all_reduce(on_cpu)
            x = on_cpu.to(x.device)
        return x

    def wait(self) -> None:
        """Go on once all of them are here."""
        if self.world > 1:
            dist.barrier()

    def reduced(self, x: Tensor, op: Literal["sum", "max"]) -> Tensor:
        """The sum, or the largest, over all processes, in place."""
        if self.world > 1:
            dist.all_reduce(x, dist.ReduceOp.SUM if op == "sum" else dist.ReduceOp.MAX)
        return x

    def mean(self, x: Tensor) -> Tensor:
        """The mean over all processes, in place."""
        return x if self.world == 1 else self.reduced(x, "sum").div_(self.world)

    def together(self, x: Tensor, axis: int = 0) -> Tensor:
        """The equally long parts of all processes in one tensor, for a loss that each of them computes alike.

        The gradient of the process's own part is `world` times that of the loss, so that the mean over processes of
        what follows from it is that of one process with all parts.
        """
        return x if self.world == 1 else _Together.apply(x, axis, self)

    def given(self, tensors: Iterable[Tensor]) -> None:
        """Fill tensors with what the first process has in them."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)


ALONE = Ranks()


class _Together(torch.autograd.Function):
    """As `Ranks.together`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int, ranks: Ranks) -> Tensor:
        ctx.axis, ctx.ranks, ctx.length = axis, ranks, x.shape[axis]
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(ranks.world)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts, axis)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        own = grad_outputs[0].narrow(ctx.axis, ctx.ranks.rank * ctx.length, ctx.length)
        return own * ctx.ranks.world, None, None


def joined() -> Ranks:
    """This process among those that have been joined; alone where none were."""
    return Ranks(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Ranks()


def started_count() -> int:
    """How many processes `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_several(what: str, remedy: str) -> None:
    """Raises `BadInput` where `torchrun` has started several processes of something that is done by one."""
    if (count := started_count()) > 1:
        raise BadInput(f"got {count} processes of torchrun for {what}: want one; {remedy}")


@contextmanager
def started() -> Iterator[Ranks]:
    """The processes that `torchrun` started, joined: by gloo, on CUDA devices by NCCL; a single one without it.

    One may work alone for long, while the others wait.
    """
    if started_count() == 1:
        yield Ranks()
        return
    has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    dist.init_process_group("cpu:gloo,cuda:nccl" if has_nccl else "gloo", timeout=PATIENCE)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def device_of(device: torch.device) -> torch.device:
    """Of several GPUs the one that `torchrun` gives this process."""
    if device.type == "cuda" and started_count() > 1 and torch.cuda.device_count() > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return device
