"""The plan: what would be trained and evaluated, what is there already, about how long it takes and how much memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from textwrap import indent

import torch

from common.command import columns
from common.errors import BadInput
from evals.suite import TaskSpec
from harness import gram_teacher
from harness.config import flatten
from harness.cost import EFFICIENCY, LIBRARIES_GIB, forward_flops, machine_rate, step_cost
from harness.graph import TRUNK, Job
from harness.job_folder import is_done, saved_step
from harness.kept import Fault
from harness.settings import Experiment


def plan(
    experiment: Experiment,
    jobs: Sequence[Job],
    tasks: dict[str, TaskSpec],
    device: torch.device,
    *,
    choices: Sequence[str] = (),
    found: Sequence[str] = (),
    broken: Sequence[Fault] = (),
) -> str:
    """The plan as text, a line per job, with totals.

    Args:
        choices: what the machine chose.
        found: what is read.
        broken: what the jobs have kept and is not whole.
    """
    rate = EFFICIENCY * machine_rate(experiment, device)
    images = sum(len(s) for s in {id(s): s for t in tasks.values() for s in (t.train_set, t.test_set) if s}.values())
    evaluation = images * forward_flops(experiment, experiment.evals.size) / rate
    rows: list[tuple[str, ...]] = [("arm", "seed", "steps", "evaluations", "time", "memory", "Gram", "state")]
    total = 0.0
    for job in jobs:
        with in_arm(job, experiment):
            seconds, memory = job_cost(job, rate)
        seconds += len(evaluated_steps(job)) * evaluation
        rows.append(row(job, seconds, memory))
        total += seconds * steps_left(job, broken) / max(job.stop - job.start, 1)
    head = [
        f"experiment {experiment.name}: {experiment.question}".rstrip(": "),
        f"{len(experiment.arms)} arms × {len(experiment.seeds)} seeds, {device}, {experiment.precision}, "
        f"batch {experiment.data.batch_size}; evaluations: {', '.join(tasks) or 'none'}",
        *choices,
        *found,
    ]
    tail = f"left to do: about {duration(total)} (from operations, to a factor of two; heads and crops on top)"
    damage = [f"  damaged: {fault.words}" for fault in broken]
    return "\n".join([*head, indent(columns(rows), "  "), *arm_lines(experiment), *damage, tail])


def row(job: Job, seconds: float, memory: float) -> tuple[str, ...]:
    """A job's line of the table; `seconds` of all its steps, `memory` in bytes."""
    at = step_of(job)
    return (
        job.arm,
        str(job.seed),
        f"{job.start}–{job.stop}",
        str(len(evaluated_steps(job))),
        duration(seconds),
        f"{memory / 2**30 + LIBRARIES_GIB:.1f} GiB",
        gram_teacher.words(job.settings.gram, job.start, job.stop),
        "done" if is_done(job) else f"from step {at}" if at > job.start else "new",
    )


def steps_left(job: Job, broken: Sequence[Fault]) -> int:
    """Steps that the job has still to take, those among them that make again what is broken."""
    again = (fault.step - fault.start for fault in broken if fault.job == job and fault.start is not None)
    return job.stop - step_of(job) + sum(again)


def step_of(job: Job) -> int:
    """The step that the job is at."""
    return job.stop if is_done(job) else saved_step(job)


def job_cost(job: Job, rate: float) -> tuple[float, float]:
    """Seconds and peak bytes of a job's training steps."""
    gram = job.settings.gram
    with_gram = max(0, job.stop - max(gram.start_step, job.start)) if gram.weight > 0 else 0
    plain = step_cost(job.settings, gram=False)
    anchored = step_cost(job.settings, gram=True) if with_gram else plain
    flops = (job.stop - job.start - with_gram) * plain.flops + with_gram * anchored.flops
    return flops / rate, max(plain.memory, anchored.memory)


@contextmanager
def in_arm(job: Job, experiment: Experiment) -> Iterator[None]:
    """What is wrong with crops that are an arm's own, or the trunk's, names it."""
    try:
        yield
    except BadInput as error:
        if job.settings.crops == experiment.crops:
            raise
        place = "trunk.overrides" if job.arm == TRUNK else f"arms.{job.arm}"
        raise BadInput("\n".join(f"{place}: {line}" for line in str(error).splitlines())) from error


def evaluated_steps(job: Job) -> Sequence[int]:
    """Steps after which the job is evaluated; an arm's fork is evaluated with its trunk."""
    every = job.settings.evals.every
    first = job.start if job.parent is None else job.start + 1
    regular = range(first + -first % every, job.stop + 1, every)
    return regular if job.stop in regular else [*regular, job.stop]


def arm_lines(experiment: Experiment) -> list[str]:
    """What each arm, and the trunk, changes."""
    changes = {TRUNK: experiment.trunk.overrides} if experiment.trunk.steps else {}
    changes |= experiment.arms
    return [
        f"  {arm}: " + (", ".join(f"{k}={v}" for k, v in flatten(own).items()) or "the settings as they are")
        for arm, own in changes.items()
    ]


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, to two digits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
