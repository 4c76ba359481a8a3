"""What all processes of `torchrun` but the first do in a run: their share of each step and of each evaluation.

The first one does all else as if it were alone: it plans, reads and writes states, and reports. The others write
nothing. They must see the same files where a job reads some: images, a frozen teacher, a Gram teacher's folder, and
the exported backbones of its steps.
"""

from __future__ import annotations

import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch

from common.errors import BadInput
from common.interrupts import SIGNALS
from common.machine import pick_device
from common.progress import silent
from common.ranks import Ranks, device_of, is_parting
from evals.pictures.recorder import Images
from harness.beginning import fresh_state, frozen_teacher, read_gram_teacher
from harness.checkpoint import restore
from harness.components import Tally
from harness.data.pool import Pools
from harness.evaluate import Tasks, examined, open_tasks
from harness.gram_teacher import given_folder
from harness.job import Job
from harness.lockstep import Beginning, Evaluation, Feed, Order, Step, scheduled, settled
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
    """Do with the first process what it orders; exit code 0 once there is nothing left, 1 where it is gone."""
    for number in (*SIGNALS, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)  # the first one hears them, and ends between two steps
    held, opened = dict[str, Held](), dict[str, tuple[Tasks, Images]]()
    try:
        while (order := cast("Order | None", ranks.agreed(None))) is not None:
            match order:
                case Step():
                    if order.beginning is not None:
                        begin(order, held, ranks, device)
                    take(order, held[order.name], ranks)
                case Evaluation():
                    examine(order, opened, ranks)
    except RuntimeError as error:
        if not is_parting(error):
            raise
        return 1
    finally:
        for one in held.values():
            one.feed.close()
    return 0


def begin(order: Step, held: dict[str, Held], ranks: Ranks, device: str) -> None:
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


def take(order: Step, own: Held, ranks: Ranks) -> None:
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


def examine(order: Evaluation, opened: dict[str, tuple[Tasks, Images]], ranks: Ranks) -> None:
    """A share of an evaluation, whose sets are opened once; the first process tells what is amiss."""
    torch.set_num_threads(order.threads)
    with silent(), suppress(BadInput), examined(order.experiment, partial(_sets, order, opened), order.folder, ranks):
        pass


def _sets(order: Evaluation, opened: dict[str, tuple[Tasks, Images]]) -> tuple[Tasks, Images]:
    if order.identity not in opened:
        tasks = open_tasks(order.experiment)
        opened[order.identity] = tasks, Images(tasks, order.experiment.evals.pictures)
    return opened[order.identity]
