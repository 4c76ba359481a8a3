"""What each arm inherits, in words: student, EMA teacher, optimizer, step counter, Gram teacher.

A phase of a recipe is an arm that goes on where another one ends (docs/phases.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from common.errors import listing
from harness import gram_teacher
from harness.job import Job


def lines(jobs: Sequence[Job]) -> Iterator[str]:
    """A line for each job of the first seed; arms that begin alike share one."""
    found = dict[str, list[str]]()
    for job in (job for job in jobs if job.seed == jobs[0].seed):
        found.setdefault(words(job), []).append(job.arm)
    yield from (f"{listing(arms)}: {said}" for said, arms in found.items())


def words(job: Job) -> str:
    """What a job begins with."""
    return f"{inherited(job)}; {_gram_teacher(job)}"


def inherited(job: Job) -> str:
    """What it begins with, the Gram teacher aside."""
    if job.parent is None:
        own = job.settings
        weights = own.weights or own.model.start_from
        return f"{'random weights' if weights is None else weights}, a new optimizer, the step counter at 0"
    where = f"{job.parent.arm} at step {job.start}"
    if job.inherit == "teacher":
        return (
            f"the EMA teacher of {where} as student and as EMA teacher, a new optimizer, schedules from their beginning"
        )
    if job.settings.schedule.counts_from == "segment":
        return f"student, EMA teacher and optimizer of {where}, schedules from their beginning"
    return f"student, EMA teacher, optimizer and step counter of {where}"


def _gram_teacher(job: Job) -> str:
    gram = job.settings.gram
    if gram.weight == 0:
        return "no Gram teacher"
    if job.parent is not None and job.keeps_gram_teacher:
        return f"the Gram teacher of {job.parent.arm}"
    return f"Gram teacher: {gram_teacher.source(gram).words(gram)}"
