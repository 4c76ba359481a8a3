"""The stream of batches that training reads, whoever makes them: worker processes, or the training process itself.

Each worker finds by itself which images it cannot read and takes others for them. A file that fails in one process and
not in another would let batches depend on who made them; so a fault counts once the training process has seen it too,
and a batch that was made of other images than that gives is made again there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch

from common.workers import batches as made_ahead
from harness.data.batches import Batch, Batches, Loaded
from harness.data.pool import Pool


class Made(NamedTuple):
    """A step's batch, or what it is made of; the images in it, by their indices; those that cannot be read so far."""

    step: int
    one: Batch | Loaded
    taken: list[int]
    unreadable: list[int]


def stream(
    batches: Batches, start: int, stop: int, workers: int = 0, *, device: torch.device | None = None
) -> Iterator[Batch]:
    """The batches of steps start … stop − 1, in order and the same for any number of worker processes.

    With workers, images are decoded beforehand, into shared memory, when the run is long enough to use most of them.
    device: where crops are made that `data.augment` leaves to it; all others are on the CPU.
    Raises BadInput as `Batches` does, also from a worker.
    """
    pool, on_device = batches.pool, batches.data.augment == "device" and device is not None
    if workers and (stop - start) * batches.data.batch_size >= len(pool):
        pool.preload()
    make = batches.loaded if on_device else batches.__getitem__
    ahead = partial(_made, pool, make)
    for made in made_ahead(ahead, stop, first=start, workers=workers, at_start=pool.keep_no_more):
        pool.skip_unreadable(made.unreadable)
        one = made.one if made.taken == taken(pool, made.one) else make(made.step)
        yield one if isinstance(one, Batch) else batches.made(one, device or torch.device("cpu"))


def taken(pool: Pool, one: Batch | Loaded) -> list[int]:
    """The indices of the images that stand for those of a batch."""
    return [pool.stand_in(index) for index in one.indices.tolist()]


def _made(pool: Pool, make: Callable[[int], Batch | Loaded], step: int) -> Made:
    one = make(step)
    return Made(step, one, taken(pool, one), [*pool.stand_in.skipped])
