"""What all processes of `torchrun` but the first do in a run: each step that it takes, on images of their own.

The first one does all else as if it were alone: it plans, reads and writes states, evaluates and reports. The others
write nothing. They must see the same files where a job reads some: images, a frozen teacher, a Gram teacher's folder.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from common.errors import BadInput
from common.interrupts import SIGNALS
from common.machine import pick_device
from common.ranks import Ranks, device_of
from harness.beginning import fresh_state, frozen_teacher, read_gram_teacher
from harness.checkpoint import restore
from harness.components import Tally
from harness.data.pool import Pools
from harness.gram_teacher import given_folder
from harness.job import Job
from harness.lockstep import Beginning, Feed, Order, scheduled, settled
from harness.state import State, frozen_copy
from harness.step import NonFinite, train_step


@dataclass
class Held:
    """A job that is begun here, and its images."""

    job: Job
    state: State
    feed: Feed
    tally: Tally


def dismiss(ranks: Ranks) -> None:
    """Let the other processes end: there is no step left."""
    ranks.agreed(None)


def follow(ranks: Ranks, device: str) -> int:
    """Take every step with the first process; exit code 0 once it says that there is none left, 1 where it is gone."""
    for number in (*SIGNALS, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the first one hears them, and ends between two steps
    held: dict[str, Held] = {}
    try:
        while (order := ranks.agreed(None)) is not None:
            if order.beginning is not None:
                begin(order, held, ranks, device)
            take(order, held[order.name], ranks)
    except dist.DistError:  # NCCL
        return 1
    except RuntimeError as error:
        if "Connection" not in str(error):  # gloo
            raise
        return 1
    finally:
        for one in held.values():
            one.feed.close()
    return 0


def begin(order: Order, held: dict[str, Held], ranks: Ranks, device: str) -> None:
    """Hold the job of an order as the first process has it; jobs of one pool read one stream of batches."""
    beginning = order.beginning
    assert beginning is not None, "it is asked for where there is one"
    torch.set_num_threads(beginning.threads)
    if beginning.anew:
        for one in held.values():
            one.feed.close()
        held.clear()
    job, where = beginning.job, device_of(pick_device(device))
    feed = next((one.feed for one in held.values()), None)
    if feed is None:
        feed = Feed(Pools(Path(job.settings.runtime.cache))(job.settings.data), device=where)
    tally = Tally(feed.pool, job.settings.data)
    held[order.name] = Held(job, received(beginning, order.step, ranks, where), feed, tally)


def received(beginning: Beginning, step: int, ranks: Ranks, device: torch.device) -> State:
    """The state of a job, filled with what the first process sends."""
    job, forms = beginning.job, beginning.tensors
    state = fresh_state(job.settings, job.seed, device)
    state.frozen = frozen_teacher(job, device)
    if any(key.startswith("anchor.") for key in forms):
        own = read_gram_teacher(job, state, given_folder(job.settings.gram), device)
        state.gram_teacher = own or frozen_copy(state.teacher.backbone)
    tensors = {key: torch.empty(shape, dtype=dtype, device=device) for key, (shape, dtype) in forms.items()}
    ranks.given(tensors.values())
    restore(state, tensors, "what the first process has sent")
    state.step = step
    return state


def take(order: Order, own: Held, ranks: Ranks) -> None:
    """One step; what keeps it from being taken is met by the first process too, which tells of it."""
    job, state = own.job, own.state
    state.seen.values = dict(order.values)
    own.tally.forget()
    tally = own.tally if order.tallied else None
    try:
        _, batch = own.feed(job, state)
        now = scheduled(job, state, order.step)
        train_step(state, batch, now, settled(job, state), seed=job.seed, tally=tally, ranks=ranks)
    except (BadInput, NonFinite):
        pass
