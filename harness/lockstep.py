"""What is taken together: students of one teacher by one stream of batches, and each step by all processes."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from common.errors import BadInput, found
from common.interrupts import Leaving
from common.ranks import ALONE, Ranks, joined
from harness import dense_watch, gram_view
from harness.checkpoint import tensors_of
from harness.data.batches import Batch, Batches
from harness.data.pool import Pool
from harness.data.stream import stream, taken
from harness.job import Job
from harness.model import sizes_of
from harness.orders import Beginning, PassOver, Step
from harness.schedules import At, at
from harness.settings import Experiment
from harness.shards import is_cut
from harness.skipped import Skips
from harness.state import State


def side_by_side(job: Job, others: Iterable[Job]) -> list[Job]:
    """The job, and those of the others that its teacher can answer with the same forward pass, each segment once."""
    key = _answered_alike(job)
    found = {job.folder: job}
    for other in others:
        if key is not None and _answered_alike(other) == key:
            found.setdefault(other.folder, other)
    return [*found.values()]


def _answered_alike(job: Job) -> Any:
    """What students share whom a teacher answers at once; None where nobody is like this one.

    An alarm changes the batches of its own arm, at a step that nobody knows beforehand.
    """
    own = job.settings
    if own.distillation.teacher is None or own.gram.awaits_alarm:
        return None
    asked = (job.science["distillation"], own.precision, own.ibot.weight > 0)
    return job.start, job.stop, asked, job.science["data"], _shaping(own, job.seed)


def _shaping(own: Experiment, seed: int) -> tuple[Any, ...]:
    """All that shapes a batch, beside the images themselves."""
    masks = (own.ibot.mask_probability, own.ibot.mask_ratio_min, own.ibot.mask_ratio_max, own.ibot.mask_shift)
    gram = own.gram if own.gram.weight > 0 else None
    return own.data, own.crops, masks, gram, sizes_of(own.model).patch, seed


# --- batches


def settled(job: Job, state: State) -> Experiment:
    """The job's settings; once an alarm was raised, with the step of it as that of their Gram loss."""
    gram = dense_watch.settled(job.settings.gram, state.seen.values, stop=job.settings.steps)
    return job.settings if gram is job.settings.gram else replace(job.settings, gram=gram)


def scheduled(job: Job, state: State, step: int) -> At:
    """The values that hold in a step of the job; an end is where its identity has it, wherever this job stops."""
    return at(settled(job, state), step, origin=job.origin, stop=job.science["schedule"]["end_step"])


def batches_of(job: Job, pool: Pool, state: State, ranks: Ranks = ALONE) -> Batches:
    """The batches of every step of the job, of each the part that is this process's. Raises `BadInput` for crops that
    the patch does not divide."""
    settings = settled(job, state)
    patch = sizes_of(settings.model).patch
    return Batches(
        pool,
        data=settings.data,
        crops=settings.crops,
        ibot=settings.ibot,
        seed=job.seed,
        patch=patch,
        gram=gram_view.crops(settings.gram, settings.crops, patch),
        part=(ranks.rank, ranks.world),
    )


class Feed:
    """The batches of steps that rise: what is asked for alike is made once, and moved to the device once.

    The stream is begun anew where an alarm changes what is in a batch. Where several processes share a step, each gets
    its own images; the first one tells the others which step is to be taken (`harness.follow`). What was
    skipped for being unreadable is written down for each job whose batch it was drawn in, before that is handed out.
    """

    def __init__(self, pool: Pool, *, device: torch.device) -> None:
        self.pool, self.device, self.ranks = pool, device, joined()
        self._agreed = 0  # how many of the skipped images all processes know of
        self._told = False  # whether the other processes have begun a job by the word of this one
        self._stream: Generator[Batch] | None = None
        self._shaping: Any = None
        self._step = -1
        self._last: tuple[Batch, Batch] | None = None
        self._skips: dict[Path, Skips] = {}

    def __call__(self, job: Job, state: State, *, tallied: bool = False, taken: bool = True) -> tuple[Batch, Batch]:
        """The batch of the step that is next for the job, as it was made and on the device.

        tallied: whether its components' losses are asked for; taken: whether the step is taken at all. Raises
        `BadInput` for an image that cannot be read, in all processes where it is so in one.
        """
        if self.ranks.world == 1 or not taken:
            made = self._made(job, state)
            if is_cut(state.student):
                self.ranks.agreed(PassOver(job.name, state.step))
            return made
        if self.ranks.first:
            self._tell(job, state, tallied)
        while True:
            made, fault, leaving = None, None, None
            try:
                made = self._made(job, state)
            except BadInput as error:
                fault = found(error)
            except Leaving as error:  # the others wait for this one's word, and then for its next order
                fault, leaving = "asked to leave", error
            skipped = self.pool.stand_in.skipped
            told = self.ranks.gathered((fault, dict(islice(skipped.items(), self._agreed, None))))
            if leaving is not None:
                raise leaving
            if faults := [one for one, _ in told if one]:
                raise BadInput(faults[0])
            for _, new in told:  # what one of them cannot read is skipped by all
                skipped.update(new)
            self._agreed = len(skipped)
            if made is not None and all(new.keys() == told[0][1].keys() for _, new in told):
                return made
            self._last = None
            self.close()  # the stream begins anew with this step

    def _tell(self, job: Job, state: State, tallied: bool) -> None:
        """Let the other processes take the step too; they are sent the state where they do not have it."""
        beginning, tensors = None, dict[str, Tensor]()
        if state.shared != state.step:
            state.learner = None  # DDP is made by all processes at once
            tensors = {key: one for key, one in tensors_of(state).items() if not key.startswith("ring.")}
            forms = {key: (one.shape, one.dtype) for key, one in tensors.items()}
            beginning = Beginning(job, forms, self.begins(), torch.get_num_threads())
        self.ranks.agreed(Step(job.name, state.step, dict(state.seen.values), tallied, beginning))
        self.ranks.given(tensors.values())
        state.shared = state.step

    def begins(self) -> bool:
        """Whether the job that the other processes are now told to begin is the first one."""
        first, self._told = not self._told, True
        return first

    def _made(self, job: Job, state: State) -> tuple[Batch, Batch]:
        skips = self.skips(job) if self.ranks.first else None  # the others write nothing
        shaping = _shaping(settled(job, state), job.seed)
        if self._last is None or (state.step, shaping) != (self._step, self._shaping):
            if self._stream is None or (state.step, shaping) != (self._step + 1, self._shaping):
                self.close()
                workers, batches = job.settings.runtime.workers, batches_of(job, self.pool, state, self.ranks)
                own = stream(batches, state.step, job.stop, workers=workers, device=self.device)
                self._stream = cast(Generator[Batch], own)
            batch = next(self._stream)
            self._step, self._shaping, self._last = state.step, shaping, (batch, to_device(batch, self.device))
        if skips is not None:
            taken(self.pool, self._last[0])
            skips.note(state.step)
        return self._last

    def skips(self, job: Job) -> Skips:
        """What the job skips, from the first call on. Raises `BadInput` as `Skips`."""
        if job.folder not in self._skips:
            self._skips[job.folder] = Skips(job, self.pool)
        return self._skips[job.folder]

    def close(self) -> None:
        """Let worker processes go."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its images on `device`; masks stay on the CPU, where their positions are counted."""
    images = {
        name: tensor.to(device, non_blocking=True)
        for name in ("globals", "locals", "gram")
        if (tensor := getattr(batch, name)) is not None
    }
    return batch._replace(**images)
