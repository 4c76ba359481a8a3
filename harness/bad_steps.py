"""Which steps a job has passed over since a loss or a gradient was not finite: `bad_steps.json` in the job's folder.

The list decides, not what is computed: who goes on with the job, or makes a part of it again, passes over the same
steps without taking them, so a run ends the same wherever it was cut off. It is on the disk before anything follows.
Leaving a step out where its gradient is not finite is what mixed precision does (arXiv 1710.03740, §3.2); leaving out
the batches behind a spike, from a state before it, is PaLM's way (arXiv 2204.02311, §5.1).
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from common.disk import write_json
from common.errors import listing
from common.ranks import ALONE, Ranks
from common.records import BadStep, BadSteps, read_record
from harness.components import Tally
from harness.data.batches import Batch
from harness.data.pool import Pool
from harness.excluded import REMEDY
from harness.job import Job
from harness.schedules import At
from harness.settings import Experiment
from harness.state import State
from harness.step import NonFinite, pass_over, train_step

log = logging.getLogger("gramlab")
FILE = "bad_steps.json"
SHOWN = 16  # names of images in a line


def recorded(folder: Path) -> list[BadStep]:
    """What a job's folder says. Raises `BadInput` where it is damaged."""
    path = folder / FILE
    return read_record(path, BadSteps, remedy=REMEDY).steps if path.exists() else []


class Stepper:
    """Takes a job's steps, and passes over those that are not finite.

    grows: whether the list may grow; else a step that is not on it is an error.
    """

    def __init__(self, job: Job, pool: Pool, *, grows: bool = True) -> None:
        self.job, self.pool, self.grows, self.found = job, pool, grows, recorded(job.folder)

    def passes_over(self, step: int) -> bool:
        """Whether the list names the step."""
        return step in {one.step for one in self.found}

    def __call__(
        self,
        state: State,
        whole: Batch,
        placed: Batch,
        at: At,
        settings: Experiment,
        *,
        tally: Tally | None = None,
        ranks: Ranks = ALONE,
    ) -> dict[str, Tensor]:
        """The terms of a step, which is taken as by `train_step`; none of one that was passed over.

        whole: the batch as it was made. placed: the same on the device.
        Raises `NonFinite`, with the state as it was before the step, for one that may not be passed over.
        """
        if not self.passes_over(at.step):
            try:
                return train_step(state, placed, at, settings, seed=self.job.seed, tally=tally, ranks=ranks)
            except NonFinite as error:
                self.add(whole, error, at.step)
        if tally is not None:
            tally.forget()
        pass_over(state, at, settings)
        return {}

    def add(self, batch: Batch, error: NonFinite, step: int) -> None:
        """Write a step down. Raises `NonFinite` that says why it may not be passed over."""
        images, most = [self.pool.key(index) for index in batch.indices.tolist()], self.job.settings.runtime.bad_steps
        said = f"{error}: {listing(images, most=SHOWN)}"
        if not error.sound:
            raise NonFinite(f"{said}; weights of the student are not finite either: no batch is to blame") from error
        if not self.grows:
            raise NonFinite(f"{said}; it was finite before, for {self.job.folder / FILE} does not name it") from error
        if len(self.found) >= most:
            before = f"; {most} were passed over before" if most else ""
            raise NonFinite(f"{said}{before}; runtime.bad_steps={most} allows no more") from error
        self.found.append(BadStep(step, [*error.terms], images))
        write_json(self.job.folder / FILE, asdict(BadSteps(self.found)))
        words = "%s: step %d passed over without learning from it, since %s not finite (%d of at most %d): %s"
        terms = f"{', '.join(error.terms)} {'is' if len(error.terms) == 1 else 'are'}"
        log.warning(words, self.job.name, step, terms, len(self.found), most, listing(images, most=SHOWN))
