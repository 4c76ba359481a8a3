"""What an experiment must train: for each arm and seed a stretch of a segment, after the stretch that it forks from.

A **segment** is training from one state on under one science: its `identity` names both, and neither machinery, nor
names, nor length. It lies once in the store, whichever arms and experiments ask for it. An arm that changes no science
goes on with its parent's segment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import BadInput, found
from common.records import EQUAL_COMPUTE
from evals.backbones.digest import content_of
from harness import distillation, gram_teacher
from harness.arms import TRUNK, Inherit, in_order
from harness.config import arm_settings, overridden, read_arm, science, trunk_settings
from harness.cost import flops
from harness.data_settings import Data
from harness.job import Job, holder
from harness.losses.table import LOSSES
from harness.schedules import counts_from_segment, end
from harness.settings import Experiment

Fingerprint = Callable[[Data], str]


def jobs(experiment: Experiment, *, fingerprint: Fingerprint) -> list[Job]:
    """All jobs, a parent before what forks from it. Raises `BadInput` for arms that do not fit their parent."""
    found = []
    for seed in experiment.seeds:
        found += _marked([*Seed(experiment, seed, fingerprint).jobs()])
    return found


class Seed:
    """The jobs of one seed, each made when it is asked for."""

    def __init__(self, experiment: Experiment, seed: int, fingerprint: Fingerprint):
        self.experiment, self.seed, self.fingerprint = experiment, seed, fingerprint
        self.made: dict[str, Job] = {}
        self.making: list[str] = []

    def jobs(self) -> Iterator[Job]:
        """The trunk, then the arms; what a job needs before it."""
        trunk = [TRUNK] if self.experiment.trunk.steps else []
        told = dict[str, Job]()
        for name in (*trunk, *in_order(self.experiment.arms)):
            told |= {job.arm: job for job in (*self.job(name).needed, self.job(name)) if job.arm not in told}
        yield from told.values()

    def job(self, name: str) -> Job:
        """One of them. Raises `BadInput` for one that would learn from itself."""
        if name in self.making:
            circle = " needs ".join([*self.making[self.making.index(name) :], name])
            raise BadInput(f"arms: {circle}, a circle: want distillation.teacher=null in one of them")
        if name not in self.made:
            self.making.append(name)
            self.made[name] = self.trunk() if name == TRUNK else self.arm(name)
            self.making.pop()
        return self.made[name]

    def trunk(self) -> Job:
        """What arms share by default."""
        settings = _gram_begins(trunk_settings(self.experiment), 0, None, where="trunk.overrides")
        stop, taught_by = self.experiment.trunk.steps, self.taught_by("trunk.overrides", settings)
        job = Job(TRUNK, self.seed, 0, stop, settings, {}, taught_by=taught_by)
        return replace(job, science=self.science(job))

    def arm(self, name: str) -> Job:
        """An arm, its end settled."""
        where, own = f"arms.{name}", read_arm(self.experiment, name)
        parent = self.job(own.parent) if own.parent is not None else None
        fork = _fork(where, own.at, parent)
        settings = arm_settings(self.experiment, name)
        baseline = self.baseline(where, fork) if own.equal_compute else None
        as_long_as = baseline or (parent if own.parent != TRUNK and "steps" not in own.overrides else None)
        if as_long_as is not None:
            settings = overridden(settings, {"steps": as_long_as.stop}, where=where)
        if parent is not None:
            _refuse_other_shapes(where, parent, settings)
            _refuse_no_steps(where, parent, fork, settings.steps)
        settings = _gram_begins(settings, fork, parent, where=where, inherit=own.inherit)
        taught_by = self.taught_by(where, settings)
        job = Job(name, self.seed, fork, settings.steps, settings, {}, parent, own.inherit, taught_by)
        if baseline is not None:
            settings = overridden(settings, {"steps": _equal_compute(where, job, baseline)}, where=where)
        job = replace(job, stop=settings.steps, settings=settings)
        return replace(job, science=self.science(job))

    def taught_by(self, where: str, settings: Experiment) -> Job | None:
        """The job that trains a student's teacher; None where there is no teacher, or one that another run trained.

        Raises `BadInput` for a teacher that the student cannot learn from.
        """
        arm = distillation.named_arm(settings)
        job = self.job(arm) if arm is not None else None
        try:
            distillation.refuse_unfit(settings, job.settings if job else None)
        except BadInput as error:
            raise BadInput(f"{where}: {error}") from error
        return job

    def science(self, job: Job) -> dict[str, Any]:
        """All that shapes a job's result; its parent's where nothing of that changes."""
        parent = job.parent
        own = self.shape(job.settings, job.start, job.stop) | _teacher_of(job.settings, job.taught_by)
        if parent is None:
            return own | {"parent": None, "weights": _weights_hash(job.settings)}
        before = {"identity": parent.identity, "step": job.start}
        if job.inherit != "all":
            return own | {"parent": before | {"inherit": job.inherit}, "weights": None}
        if own == {key: value for key, value in parent.science.items() if key not in ("parent", "weights")}:
            return parent.science
        return own | {"parent": before, "weights": None}

    def shape(self, settings: Experiment, start: int, stop: int) -> dict[str, Any]:
        """The scientific settings and the seed: a given Gram teacher by its content, schedules with what they hang on.

        start, stop: where the segment begins, and where it would end; each counts where a schedule depends on it.
        """
        shape = science(settings, data_fingerprint=self.fingerprint(settings.data))
        begins = {"start": start} if counts_from_segment(settings) else {}
        until = {} if end(settings, stop) is None else {"end_step": stop}
        return shape | {
            "gram": shape["gram"] | gram_teacher.content(settings.gram) | gram_teacher.form(settings),
            "schedule": shape["schedule"] | begins | until,
            "seed": self.seed,
        }

    def baseline(self, where: str, fork: int) -> Job:
        """The arm whose compute another one is given, which forks at the same step."""
        where = f"{where}.steps={EQUAL_COMPUTE}"
        name = self.experiment.baseline or next(iter(self.experiment.arms))
        if read_arm(self.experiment, name).equal_compute:
            raise BadInput(f"{where}: the baseline {name} has it too: want a number of steps there to count from")
        found = self.job(name)
        if found.start != fork:
            raise BadInput(
                f"{where}: it forks at step {fork}, but the baseline {name}, whose compute it shall have, at "
                f"{found.start}: want the same fork, or a number of steps"
            )
        return found


def _teacher_of(settings: Experiment, taught_by: Job | None) -> dict[str, Any]:
    """A frozen teacher as it stands in an identity: the segment that trains it and the step, wherever it lies."""
    if settings.distillation.teacher is None:
        return {}
    if taught_by is not None:
        return {"distillation": {"identity": taught_by.identity, "step": taught_by.stop}}
    return {"distillation": distillation.content(Path(settings.distillation.teacher))}


def _marked(jobs: Sequence[Job]) -> list[Job]:
    """The jobs of a seed, each knowing which states and snapshots others need of it."""
    forks, snapshots = defaultdict[Any, set[int]](set), defaultdict[Any, set[int]](set)  # by content
    for job in jobs:
        if job.parent is not None and job.parent.identity != job.identity:
            forks[job.parent.content].add(job.start)
        if job.taught_by is not None:
            forks[job.taught_by.content].add(job.taught_by.stop)
        for step in job.earlier:
            snapshots[holder(job, step).content].add(step)
    marked: dict[str, Job] = {}
    for job in jobs:
        parent, taught_by = (marked[one.name] if one is not None else None for one in (job.parent, job.taught_by))
        kept = {"forks": tuple(sorted(forks[job.content])), "snapshots": tuple(sorted(snapshots[job.content]))}
        marked[job.name] = replace(job, parent=parent, taught_by=taught_by, **kept)
    return [*marked.values()]


def _fork(where: str, at: int | None, parent: Job | None) -> int:
    """The step at which an arm forks from its parent."""
    if parent is None:
        return 0
    if at is not None and not parent.start < at <= parent.stop:
        steps = f"{parent.arm} trains the steps after {parent.start} up to {parent.stop}"
        raise BadInput(f"{where}.at={at}: {steps}: want at: one of these, or from: the arm that has that step")
    return parent.stop if at is None else at


def _refuse_no_steps(where: str, parent: Job, fork: int, steps: int) -> None:
    if steps <= fork:
        earlier = f", or at: an earlier step of {parent.arm}" if fork - parent.start > 1 else ""
        raise BadInput(
            f"{where}: it forks from {parent.arm} at step {fork} and ends at step {steps}: want steps: above {fork}"
            f"{earlier}"
        )


def _equal_compute(where: str, job: Job, baseline: Job) -> int:
    """The last step up to which the arm costs no more operations than the baseline from the same fork."""

    def cost(one: Job, stop: int) -> float:
        return flops(one.settings, fork, stop, origin=one.origin, teacher=one.teacher)

    fork = baseline.start
    most = cost(baseline, baseline.stop)
    low, high = fork, fork + 1
    while cost(job, high) <= most:
        low, high = high, 2 * high - fork
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if cost(job, middle) <= most else (low, middle)
    if low == fork:
        want = f"its first step costs more than all of {baseline.arm}: want more steps of that"
        raise BadInput(f"{where}.steps={EQUAL_COMPUTE}: {want}")
    return low


def _gram_begins(
    settings: Experiment, fork: int, parent: Job | None, *, where: str, inherit: Inherit = "all"
) -> Experiment:
    """The settings with `gram.start_step` known: where Gram is switched on, which is at the fork or with the parent."""
    gram = settings.gram
    if gram.weight == 0:
        return settings
    goes_on = parent is not None and inherit == "all" and parent.settings.gram.weight > 0
    before = parent.settings.gram if parent is not None and goes_on else None
    if gram.start_step is None:
        first = fork if before is None else before.first_step
        return overridden(settings, {"gram.start_step": first}, where=where)
    if parent is not None and before is None and gram.start_step < fork:
        why = f"{parent.arm} has no Gram loss" if inherit == "all" else f"inherit={inherit} begins it anew"
        raise BadInput(
            f"{where}: gram.start_step={gram.start_step} lies before the fork at step {fork}, and {why}: start at the "
            "fork or later"
        )
    return settings


def _refuse_other_shapes(where: str, parent: Job, settings: Experiment) -> None:
    heads = [f"{name}.head" for name in LOSSES if hasattr(getattr(settings, name), "head")]
    for key in ("model.name", "model.args", "model.start_from", *heads):
        section, leaf = key.split(".")
        if getattr(getattr(parent.settings, section), leaf) != getattr(getattr(settings, section), leaf):
            whose = "the trunk" if parent.arm == TRUNK else parent.arm
            raise BadInput(f"{where}: {key} differs from that of {whose}: arms fork with its weights; set it for all")


def _weights_hash(settings: Experiment) -> str | None:
    """Content of the weights that step 0 starts from, so that another file under the same name is another run."""
    if settings.weights is None:
        return None
    path = Path(settings.weights)
    if not path.is_file():
        raise BadInput(
            f"trunk.checkpoint={path}: no such file; want a .safetensors of weights, or null to start from random"
        )
    try:
        return content_of(path)[:16]
    except BadInput as error:
        raise BadInput(
            f"trunk.checkpoint={path}: {found(error)}: want weights that harness/export_trunk.py wrote, or null to "
            "start from random"
        ) from error
