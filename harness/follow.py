"""What all processes of `torchrun` but the first do in a run: their share of each step and of each evaluation.

The first one does all else as if it were alone: it plans, reads and writes states, and reports. The others write their
parts of a state that is cut, and a cache of what they read. They must see the same files where a job reads some:
images, a frozen teacher, a Gram teacher's folder, and the exported backbones of its steps.
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
from common.interrupts import SIGNALS, Interrupted
from common.machine import pick_device
from common.progress import silent
from common.ranks import Ranks, device_of, is_parting
from evals.pictures.recorder import Images
from harness import cut_state, together
from harness.beginning import fresh_state, frozen_teacher, read_gram_teacher
from harness.checkpoint import restore
from harness.components import Tally
from harness.data.pool import Pools
from harness.evaluate import Tasks, examined, open_tasks
from harness.gram_teacher import given_folder
from harness.job import Job
from harness.lockstep import Feed, scheduled, settled
from harness.orders import Begin, Beginning, Evaluation, Gather, Order, PassOver, Save, Step, Training
from harness.shards import gathered, is_cut
from harness.state import State, frozen_copy, network_of
from harness.step import NonFinite, pass_over, train_step


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
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # the first one hears them, and ends between two steps
    held, opened = dict[str, Held](), dict[str, tuple[Tasks, Images]]()
    try:
        while (order := cast("Order | None", ranks.agreed(None))) is not None:
            if isinstance(order, Evaluation):
                examine(order, opened, ranks)
            else:
                carry_out(order, held, ranks, device_of(pick_device(device)))
    except Interrupted:  # of the first process, while all write
        return 1
    except RuntimeError as error:
        if not is_parting(error):
            raise
        return 1
    finally:
        for one in held.values():
            one.feed.close()
    return 0


def carry_out(order: Training, held: dict[str, Held], ranks: Ranks, device: torch.device) -> None:
    """Do what an order says of a job, with the first process."""
    match order:
        case Step(name, step):
            if (beginning := order.beginning) is not None:
                feed = room(beginning, held, device)
                hold(beginning.job, held, feed, received(beginning, step, ranks, device))
            take(order, held[name], ranks)
        case Begin(job, step):
            feed = room(order, held, device)
            with suppress(BadInput):  # which all processes meet, and the first one tells
                hold(job, held, feed, together.cut(job, device, ranks, step=step))
        case PassOver(name, step):
            own = held[name]
            pass_over(own.state, scheduled(own.job, own.state, step), settled(own.job, own.state))
        case Save(name, path):
            cut_state.save(held[name].state, path, identity=held[name].job.identity, ranks=ranks)
        case Gather(name, which):
            gathered(network_of(held[name].state, which).backbone.state_dict(), ranks)


def room(order: Beginning | Begin, held: dict[str, Held], device: torch.device) -> Feed:
    """Let go what does not go on; the stream of batches for the job of an order, one for all jobs of a pool."""
    torch.set_num_threads(order.threads)
    if order.anew:
        for one in held.values():
            one.feed.close()
        held.clear()
    settings = order.job.settings
    feed = next((one.feed for one in held.values()), None)
    return feed or Feed(Pools(Path(settings.runtime.cache))(settings.data), device=device)


def hold(job: Job, held: dict[str, Held], feed: Feed, state: State) -> None:
    """Hold a job as the first process has it."""
    held[job.name] = Held(job, state, feed, Tally(feed.pool, job.settings.data))


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
    now, settings = scheduled(job, state, order.step), settled(job, state)
    try:
        _, batch = own.feed(job, state)
        train_step(state, batch, now, settings, seed=job.seed, tally=tally, ranks=ranks)
    except BadInput:
        pass
    except NonFinite:
        if is_cut(state.student):
            pass_over(state, now, settings)


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
