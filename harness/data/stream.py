"""The stream of batches that training reads, whoever makes them: worker processes, or the training process itself.

Each worker finds by itself which images it cannot read and takes others for them. A file that fails in one process and
not in another would let batches depend on who made them; so a fault counts once the training process has seen it too,
and a batch that was made of other images than that gives is made again there.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from common.workers import batches as made_ahead
from harness.data.batches import Batch, Batches
from harness.data.pool import Pool


class Made(NamedTuple):
    """A step's batch, the images that it was made of, by their indices, and those that could not be read so far."""

    step: int
    batch: Batch
    taken: list[int]
    unreadable: list[int]


def stream(batches: Batches, start: int, stop: int, workers: int = 0) -> Iterator[Batch]:
    """The batches of steps start … stop − 1, in order and the same for any number of worker processes.

    With workers, images are decoded beforehand, into shared memory, when the run is long enough to use most of them.
    Raises BadInput as `Batches` does, also from a worker.
    """
    pool = batches.pool
    if workers and (stop - start) * batches.data.batch_size >= len(pool):
        pool.preload()
    make = partial(_made, batches)
    for made in made_ahead(make, stop, first=start, workers=workers, at_start=pool.keep_no_more):
        pool.skip_unreadable(made.unreadable)
        yield made.batch if made.taken == taken(pool, made.batch) else batches[made.step]


def taken(pool: Pool, batch: Batch) -> list[int]:
    """The indices of the images that stand for those of a batch."""
    return [pool.stand_in(index) for index in batch.indices.tolist()]


def _made(batches: Batches, step: int) -> Made:
    batch = batches[step]
    return Made(step, batch, taken(batches.pool, batch), [*batches.pool.stand_in.skipped])
