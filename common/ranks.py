"""The processes that share a curation under `torchrun`: which blocks are whose, and how they come to agree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


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


@contextmanager
def started() -> Iterator[Ranks]:
    """The processes that `torchrun` started, joined by gloo; a single one without it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks()
        return
    dist.init_process_group("gloo")
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


def device_of(device: torch.device) -> torch.device:
    """Of several GPUs the one that `torchrun` gives this process."""
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return device
