"""The plan: what would be trained and evaluated, what is there already, about how long it takes and how much memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from textwrap import indent
from typing import NamedTuple

import torch

from common.command import columns, duration, number_of
from common.errors import BadInput, listing
from common.schema import assigned
from evals.one_task import TaskSpec
from harness import gpu_estimate, gram_teacher, phases
from harness.arms import dotted
from harness.cost import (
    EFFICIENCY,
    LIBRARIES_GIB,
    flops,
    forward_flops,
    machine_rate,
    step_cost,
    teacher_bytes,
    teacher_flops,
    watch_flops,
)
from harness.graph import TRUNK
from harness.job import Job
from harness.job_folder import is_done, saved_step
from harness.kept import Fault
from harness.lockstep import side_by_side
from harness.model import sizes_of
from harness.settings import Experiment


class Estimate(NamedTuple):
    """What a job will take here: seconds of its steps and of its evaluations, bytes at its peak.

    teaching: of the seconds of its steps, its share of what a frozen teacher takes that answers it and others at once.
    """

    training: float
    evaluating: float
    memory: float
    teaching: float = 0.0


def estimates(
    experiment: Experiment, jobs: Sequence[Job], tasks: Mapping[str, TaskSpec], device: torch.device
) -> dict[str, Estimate]:
    """Of every job by its name; how fast this machine is, is measured."""
    rate = EFFICIENCY * machine_rate(experiment, device)
    images = sum(len(s) for s in {id(s): s for t in tasks.values() for s in (t.train_set, t.test_set) if s}.values())
    found = {}
    for job in jobs:
        with in_arm(job, experiment):
            seconds, memory = job_cost(job, rate)
            evaluation = images * forward_flops(job.settings, experiment.evals.size) / rate
        teaching = 0.0 if job.teacher is None else (job.stop - job.start) * teacher_flops(job.teacher) / rate
        share = teaching / len(side_by_side(job, jobs))
        found[job.name] = Estimate(seconds - teaching + share, len(job.evaluations) * evaluation, memory, share)
    return found


def plan(
    experiment: Experiment,
    jobs: Sequence[Job],
    tasks: Mapping[str, TaskSpec],
    device: torch.device,
    *,
    expected: Mapping[str, Estimate],
    choices: Sequence[str] = (),
    found: Sequence[str] = (),
    broken: Sequence[Fault] = (),
    pictures: str = "",
    repeats: Mapping[str, int] | None = None,
) -> str:
    """The plan as text, a line per job, with totals.

    Args:
        expected: of every job, by `estimates`.
        choices: what the machine chose.
        found: what is read.
        broken: what the jobs have kept and is not whole.
        pictures: what is kept for pictures of features, and what it costs.
        repeats: of an arm that stands for the trials of a sweep, how many of them are to be trained.
    """
    repeats = repeats or {}
    size = f"{number_of(len(experiment.arms), 'arm')} × {number_of(len(experiment.seeds), 'seed')}"
    head = [
        f"experiment {experiment.name}: {experiment.question}".rstrip(": "),
        f"{size}, {device}, {experiment.precision}, batch {experiment.data.batch_size}; evaluations: "
        + (", ".join(tasks) or "none, backbones are exported at their steps"),
    ]
    tail = [
        *(f"  {'damaged' if fault.path.exists() else 'not kept'}: {fault.words}" for fault in broken),
        *equal_arms(jobs),
        *students(jobs, expected),
        *gpu_estimate.lines(jobs),
        pictures,
        saving(experiment, jobs, {name: one.training for name, one in expected.items()}, repeats=repeats),
        left_to_do(jobs, expected, broken, repeats),
    ]
    begins = ["what each begins with:", *(f"  {line}" for line in phases.lines(jobs))]
    changes = ["what each changes:", *arm_lines(experiment)]
    drawn = indent(columns(table(experiment, jobs, expected)), "  ")
    return "\n".join([*head, *choices, *found, drawn, *begins, *changes, *(line for line in tail if line)])


def left_to_do(
    jobs: Sequence[Job], expected: Mapping[str, Estimate], broken: Sequence[Fault], repeats: Mapping[str, int]
) -> str:
    """How long what is not trained yet, or has to be trained again, will take."""
    total = 0.0
    for job, steps in left(jobs, broken):
        own = expected[job.name]
        total += (own.training + own.evaluating) * repeats.get(job.arm, steps / (job.stop - job.start))
    trials = "".join(f" with {count} trials, less where they are pruned or equal" for count in repeats.values())
    return f"left to do: about {duration(total)}{trials} (from operations, to a factor of two; heads and crops on top)"


def table(experiment: Experiment, jobs: Sequence[Job], expected: Mapping[str, Estimate]) -> list[Sequence[str]]:
    """The rows of the plan: an arm each, as a tree, with the standing of each seed."""
    rows: list[Sequence[str]] = [
        ("arm", "steps", "evaluations", "time", "memory", "Gram", *(f"seed {seed}" for seed in experiment.seeds))
    ]
    for indented, same in tree(jobs):
        own = expected[same[0].name]
        rows.append((indented, *row(same[0], own.training + own.evaluating, own.memory), *map(standing, same)))
    return rows


def tree(jobs: Sequence[Job]) -> Iterator[tuple[str, list[Job]]]:
    """Each arm behind lines that show what it forks from, and its jobs, one for each seed."""
    by_arm: dict[str, list[Job]] = {}
    for job in jobs:
        by_arm.setdefault(job.arm, []).append(job)
    children: dict[str | None, list[str]] = {}
    for arm, same in by_arm.items():
        children.setdefault(same[0].parent.arm if same[0].parent else None, []).append(arm)

    def below(parent: str | None, before: str) -> Iterator[tuple[str, list[Job]]]:
        own = children.get(parent, [])
        for arm in own:
            last = arm == own[-1]
            yield before + ("" if parent is None else "└ " if last else "├ ") + arm, by_arm[arm]
            yield from below(arm, before + ("" if parent is None else "  " if last else "│ "))

    return below(None, "")


def row(job: Job, seconds: float, memory: float) -> tuple[str, ...]:
    """What a job's line of the table says but its arm and standing; `seconds` of all its steps, `memory` in bytes."""
    return (
        f"{job.start}–{job.stop}",
        str(len(job.evaluations)),
        duration(seconds),
        f"{memory / 2**30 + LIBRARIES_GIB:.1f} GiB",
        gram_teacher.words(job.settings.gram, job.settings.crops),
    )


def standing(job: Job) -> str:
    """How far a job is; what another experiment trained is kept in the store."""
    at = step_of(job)
    words = "done" if at == job.stop else f"from step {at}" if at > job.start else "new"
    return words if job.view.is_symlink() or words == "new" else f"{words}, in the store"


def step_of(job: Job) -> int:
    """The step that the job is at, of its own."""
    return job.stop if is_done(job) else min(max(job.start, saved_step(job)), job.stop)


def left(jobs: Sequence[Job], broken: Sequence[Fault]) -> Iterator[tuple[Job, int]]:
    """Steps that each job has still to take, those among them that make again what is broken; shared ones once."""
    covered: dict[str, int] = {}
    for job in jobs:
        begun = max(step_of(job), covered.get(job.identity, 0))
        covered[job.identity] = max(begun, job.stop)
        again = (fault.step - fault.start for fault in broken if fault.job == job and fault.start is not None)
        yield job, max(0, job.stop - begun) + sum(again)


def saving(
    experiment: Experiment, jobs: Sequence[Job], seconds: Mapping[str, float], *, repeats: Mapping[str, int]
) -> str:
    """What all training of the graph costs, against every arm from step 0; empty where nothing is shared."""
    shared = {job.content: repeats.get(job.arm, 1) * seconds[job.name] for job in jobs}
    alone = sum(
        repeats.get(job.arm, 1)
        * seconds[one.name]
        * ((after.start if after else one.stop) - one.start)
        / (one.stop - one.start)
        for job in jobs
        if job.arm in experiment.arms
        for one, after in zip(job.path, [*job.path[1:], None], strict=True)
    )
    graph = sum(shared.values())
    if graph >= alone:
        return ""
    return (
        f"training of the graph: about {duration(graph)}; of every arm from step 0: {duration(alone)} "
        f"({1 - graph / alone:.0%} saved)"
    )


def equal_arms(jobs: Sequence[Job]) -> list[str]:
    """That arms are the same training, a line for each group of them."""
    groups: dict[tuple[str, int, int], list[str]] = {}
    for job in jobs:
        groups.setdefault(job.content, []).append(job.arm)
    told = (
        f"arms {listing(names)} are equal in all that shapes a result: trained once"
        for names in groups.values()
        if len(names) > 1
    )
    return list(dict.fromkeys(told))


def students(jobs: Sequence[Job], expected: Mapping[str, Estimate]) -> list[str]:
    """Who learns from which frozen teacher, side by side with whom, and what that teacher takes; each line once."""
    told = dict[str, None]()
    for job in jobs:
        if job.teacher is None:
            continue
        these = [one for one in jobs if one in side_by_side(job, jobs)]
        names = ", ".join(f"{one.arm} ({sizes_of(one.settings.model).million})" for one in these)
        by = job.taught_by
        whose = job.settings.distillation.teacher if by is None else f"{by.arm}, EMA of step {by.stop}"
        teaching = sum(expected[one.name].teaching for one in these)
        training = sum(expected[one.name].training for one in these)
        memory = sum(expected[one.name].memory for one in these) - (len(these) - 1) * teacher_bytes(job.teacher)
        memory = memory / 2**30 + LIBRARIES_GIB
        together = f", once for all of them, which hold {memory:.1f} GiB in one process" if len(these) > 1 else ""
        told[
            f"  {names}: from {whose} ({sizes_of(job.teacher.model).million}), which takes {duration(teaching)} of "
            f"{duration(training)}{together}"
        ] = None
    return [*told]


def job_cost(job: Job, rate: float) -> tuple[float, float]:
    """Seconds and peak bytes of a job's training steps."""
    gram = job.settings.gram
    anchored = gram.weight > 0 and gram.first_step < job.stop
    memory = step_cost(job.settings, gram=anchored, teacher=job.teacher).memory
    operations = flops(job.settings, job.start, job.stop, origin=job.origin, teacher=job.teacher)
    operations += watch_flops(job.settings, job.start, job.stop)
    return operations / rate, memory


@contextmanager
def in_arm(job: Job, experiment: Experiment) -> Iterator[None]:
    """What is wrong with crops or a backbone that are an arm's own, or the trunk's, names it."""
    try:
        yield
    except BadInput as error:
        if (job.settings.crops, job.settings.model) == (experiment.crops, experiment.model):
            raise
        place = "trunk.overrides" if job.arm == TRUNK else f"arms.{job.arm}"
        raise BadInput("\n".join(f"{place}: {line}" for line in str(error).splitlines())) from error


def arm_lines(experiment: Experiment) -> list[str]:
    """What each arm, and the trunk, changes."""
    changes = {TRUNK: experiment.trunk.overrides} if experiment.trunk.steps else {}
    changes |= experiment.arms
    return [f"  {arm}: {assigned(dotted(own)) or 'the settings as they are'}" for arm, own in changes.items()]
