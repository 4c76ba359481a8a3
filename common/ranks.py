"""The processes that share work under `torchrun`: which of it is whose, and how they come to agree."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from common.errors import BadInput
from common.progress import tick
from common.pulse import SILENCE, Pulse, joining

T = TypeVar("T")
PATIENCE = timedelta(days=7)
SHORTEST, LONGEST = 0.001, 0.1  # seconds between two looks at whether all processes are here
_store: Store | None = None  # where they say so
_awaited = 0  # how often others have said so, or must have, to go on
_pulse: Pulse | None = None  # whether they are alive


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

    def wait(self) -> None:
        """Go on once all of them are here."""
        if self.world > 1:
            dist.barrier()

    def meet(self) -> None:
        """In the first process: go on once all are here, however long that takes, and hear signals meanwhile, which
        those that wait inside a collective do not. The others go on at once, to wait in the next collective.

        Raises `BadInput` where one of them is not there any more."""
        global _awaited
        if self.world == 1 or _store is None:
            return
        _awaited, pause = _awaited + self.world - 1, SHORTEST
        if not self.first:
            _store.add("here", 1)
            return
        while _store.add("here", 0) < _awaited:
            if _pulse is not None and _pulse.lost is not None:
                raise BadInput(_pulse.lost)
            tick()
            time.sleep(pause)
            pause = min(1.5 * pause, LONGEST)

    def made(self, make: Callable[[], T]) -> T:
        """What `make` gives in this process. `BadInput` that it raises in one is raised in all of them, so that none
        waits for those that have given up: what the lowest one met, where it is so in several."""
        if self.world == 1:
            return make()
        own, fault = None, None
        try:
            own = make()
        except BadInput as error:
            fault = error
        self.meet()
        for one in self.gathered(fault):
            if one is not None:
                raise one
        return cast(T, own)

    def led(self, read: Callable[[], T]) -> T | None:
        """What the first process reads; None in the others. Raises in all of them as `made`."""
        return self.made(lambda: read() if self.first else None)

    def told(self, read: Callable[[], T]) -> T:
        """What the first process reads, in all of them. Raises in all of them as `made`."""
        return cast(T, self.agreed(self.led(read)))

    def made_by_all(self, make: Callable[[], T]) -> list[T]:
        """What `make` gives in every process, in their order. Raises in all of them as `made`."""
        return self.gathered(self.made(make))

    def dealt(self, work: Sequence[T], do: Callable[[T], Any]) -> Iterator[list[tuple[T, Any]]]:
        """Every piece of work with what came of it, done by one of the processes: as many at a time as there are of
        them, in their order. Raises in all of them as `made`."""
        for start in range(0, len(work), self.world):
            now = work[start : start + self.world]
            told = self.made_by_all(lambda now=now: do(now[self.rank]) if self.rank < len(now) else None)
            yield list(zip(now, told, strict=False))

    def collected(self, own: Sequence[Tensor]) -> list[list[Tensor]]:
        """In the first process the tensors of all, which are on the CPU, in their order; nothing in the others."""
        forms = self.gathered([(x.shape, x.dtype) for x in own])
        if not self.first:
            for sent in [dist.isend(x.contiguous(), 0) for x in own if x.numel()]:
                cast(dist.Work, sent).wait()
            return []
        others = [[torch.empty(shape, dtype=kind) for shape, kind in one] for one in forms[1:]]
        for taken in [dist.irecv(x, source) for source, one in enumerate(others, start=1) for x in one if x.numel()]:
            cast(dist.Work, taken).wait()
        return [[*own], *others]

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


def here_count() -> int:
    """How many of the processes that have been joined are on this machine."""
    world = joined().world
    return min(world, int(os.environ.get("LOCAL_WORLD_SIZE", world)))


def started_count() -> int:
    """How many processes `torchrun` has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_first() -> bool:
    """Whether this process is the first, or the only one, before any have been joined."""
    return started_count() == 1 or os.environ.get("RANK", "0") == "0"


def is_parting(error: BaseException) -> bool:
    """Whether an error of a collective says that a process has ended."""
    by_gloo = isinstance(error, RuntimeError) and any(word in str(error) for word in ("Connection", "Broken pipe"))
    return isinstance(error, dist.DistError) or by_gloo


def refuse_several(what: str, remedy: str) -> None:
    """Raises `BadInput` where `torchrun` has started several processes of something that is done by one."""
    if (count := started_count()) > 1:
        raise BadInput(f"got {count} processes of torchrun for {what}: want one; {remedy}")


def refuse_one(what: str, remedy: str) -> None:
    """Raises `BadInput` where `torchrun` has not started several processes for something that takes them."""
    if started_count() == 1:
        raise BadInput(f"got one process for {what}: want several of torchrun; {remedy}")


@contextmanager
def started() -> Iterator[Ranks]:
    """The processes that `torchrun` started, joined: by gloo, on CUDA devices by NCCL; a single one without it.

    One may work alone for long, while the others wait. Raises `BadInput` where one has ended while others went on. Who
    does not come to raise it, where one is silent or `torchrun` has ended, is ended itself (`common.pulse`).
    """
    global _store, _awaited, _pulse
    if started_count() == 1:
        yield Ranks()
        return
    has_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    backend = "cpu:gloo,cuda:nccl" if has_nccl else "gloo"
    with joining(first=is_first()):
        found, rank, world = _met()
        _pulse, well = Pulse(found, rank=rank, world=world), False
        dist.init_process_group(backend, store=found, rank=rank, world_size=world, timeout=PATIENCE)
    _pulse.begin()
    _store, _awaited = PrefixStore("meetings", found), 0
    try:
        yield Ranks(rank, world)
        well = True
    except Exception as error:
        if not is_parting(error):
            raise
        raise BadInput(
            f"got {world} processes of torchrun of which one has ended: want all of them; do see what it said, or "
            "what has killed it"
        ) from error
    finally:
        gc.collect()  # what is spread over the processes knows of their group, and torch may abort where it ends later
        try:
            dist.destroy_process_group()
        finally:
            _pulse.end(well=well)
            _store = _pulse = None


def _met() -> tuple[Store, int, int]:
    """The store by which processes meet, this one's rank, and how many there are."""
    is_torchruns = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"  # and so was there before this process
    usual: dict[str, Any] = {"timeout": timedelta(seconds=SILENCE)} if is_torchruns else {}
    try:
        return next(rendezvous("env://", **usual))
    except dist.DistError as error:
        place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise BadInput(
            f"got no answer of torchrun at {place}: want it at work and within reach; see what has ended it"
        ) from error


def device_of(device: torch.device) -> torch.device:
    """Of several GPUs the one that `torchrun` gives this process."""
    if device.type == "cuda" and started_count() > 1 and torch.cuda.device_count() > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    return device
