"""One trial of a sweep: an arm that forks from the shared trunk, trained, pruned on its way, and measured."""

from __future__ import annotations

import logging
import math
import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import torch
from optuna import Study, Trial
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from common.at_work import is_held
from common.disk import alone, remove
from common.errors import BadInput, first_line
from common.interrupts import leave_if_asked
from common.records import CurvePoint, read_lines
from common.schema import assigned
from common.sweep_records import Seeds
from evals.results.bootstrap import Interval
from evals.results.table import Row
from harness import memory
from harness.config import identity
from harness.cost import refuse_unfit_crops
from harness.data.pool import Pools, fingerprint
from harness.evaluate import Evaluator, read_mark
from harness.graph import TRUNK, jobs
from harness.job import Job
from harness.job_folder import check, is_done, step_folder
from harness.mending import bring_to_end
from harness.pointless import pointless
from harness.settings import Experiment
from harness.step import NonFinite
from harness.sweeps.falls import NOTHING, fallen
from harness.sweeps.objectives import HOURS, Objective, mean
from harness.sweeps.pruning import is_hopeless, show, shown
from harness.sweeps.space import drawn, overrides
from harness.sweeps.storage import Storage
from harness.sweeps.study import ARM, REASON, begun, is_settled, last_of_each, tidy
from harness.timeline import planned_arms
from harness.workplace import LOOK, held, patiently

log = logging.getLogger("gramlab")
EXAMPLE, NAMES = "trial", re.compile(r"trial(-\d+)?")  # the arm that stands for trials in a plan; names of trials
CLAIMS = ".claims"  # of a sweep's folder; in it a folder for each machine
CONTENT, TRAINED_AS, MEASURED, PRUNED = "content", "trained_as", "measured", "pruned"  # attributes of a trial
Measured = dict[str, Seeds]  # by objective


class Unfit(Exception):
    """Settings of a trial that exclude one another, or lead to no number: this trial's fault, and no other's."""


class Behind(Exception):
    """A trial that is to be told what another one finds, which waits to be taken up: the queue has them in turn."""


@dataclass(frozen=True)
class Trials:
    """What the trials of a sweep have in common."""

    experiment: Experiment
    folder: Path
    objectives: Sequence[Objective]
    prunes: Objective | None
    pruner: BasePruner
    pools: Pools
    evaluator: Evaluator
    device: torch.device

    def turn(self) -> AbstractContextManager[None]:
        """Inside, no other worker of this sweep is: trials are claimed and the record is written one at a time."""
        return alone(self.folder / ".turns")

    @property
    def claims(self) -> Path:
        """Where workers of this machine hold a folder for each trial that is at work."""
        return self.folder / CLAIMS / platform.node()

    def at_work(self, trial: Trial) -> AbstractContextManager[None]:
        """Inside, others can tell that this trial's worker lives; to be entered in a turn."""
        return held(self.claims / str(trial.number))

    def tidy(self, study: Study) -> None:
        """Put the trials that were broken off back into the queue; to be called in a turn.

        A worker that was killed holds nothing any more, so that its trial is taken up at once by another one of its
        machine; signs of life tell of those that stand still, and of other machines, whose locks are not seen
        everywhere.
        """
        gone = [place for place in self.claims.glob("[0-9]*") if not is_held(place)]
        tidy(study, gone=[int(place.name) for place in gone])
        for place in gone:
            remove(place)

    def carry_out(self, trial: Trial, storage: Storage, claimed: Callable[[], None]) -> list[float]:
        """The trial's objectives; `claimed` is called once another worker can tell that its settings are taken.

        Raises `Unfit` or `NonFinite` where its settings are to blame, `BadInput` where its folder is;
        `optuna.TrialPruned`; `Behind`; `UpdateFinishedTrialError` where another worker took it up, since this one gave
        no sign of life for long.
        """
        new = f"trial-{begun(trial.study):04d}"
        trial.set_user_attr(ARM, arm := trial.user_attrs.get(ARM, new))
        storage.record_heartbeat(trial._trial_id)
        own = drawn(trial, self.experiment.sweep)
        try:
            todo = self.possible(arm, own)
        except BadInput as error:
            trial.set_user_attr(REASON, reason := first_line(error))
            raise Unfit(reason) from error
        for job in todo:
            check(job)
        trial.set_user_attr(CONTENT, content(todo))
        twin = self.twin(trial)
        trial.set_user_attr(TRAINED_AS, twin or arm)
        claimed()
        log.info("%s: %s", arm, assigned(own))
        if twin is None:
            return self.finish(trial, todo)
        log.info("%s: has the settings of %s", arm, twin)
        return tell_as(trial, self.settled(trial.study, twin))

    def finish(self, trial: Trial, todo: Sequence[Job]) -> list[float]:
        """Train what is left of the trial, and measure it."""
        try:
            for job in todo:
                self.bring_on(trial, job, todo)
            measured = self.measured([job for job in todo if job.arm == todo[-1].arm])
        except NonFinite as error:
            trial.set_user_attr(REASON, first_line(error))
            raise
        trial.set_user_attr(MEASURED, measured)
        count = len(self.experiment.seeds)
        values = [mean([value for _, value, *_ in measured[one.name]], count=count) for one in self.objectives]
        if lost := [one.name for one, value in zip(self.objectives, values, strict=True) if not math.isfinite(value)]:
            trial.set_user_attr(REASON, reason := f"{', '.join(lost)} has no finite value of every seed")
            raise Unfit(reason)
        return values

    def jobs_of(self, arms: Mapping[str, Mapping[str, Any]]) -> list[Job]:
        """What these arms need, trunks first. Raises `BadInput` for settings that cannot be meant or cannot fit."""
        experiment = replace(self.experiment, arms={arm: dict(own) for arm, own in arms.items()}, baseline=None)
        memory.check(experiment, self.device)
        todo = jobs(experiment, fingerprint=lambda data: fingerprint(self.pools(data)))
        for job in todo:
            refuse_unfit_crops(job.settings)
        return [replace(job, forks=(job.stop,)) if job.arm == TRUNK else job for job in todo]  # trials will begin there

    def jobs_again(self, trial: FrozenTrial) -> list[Job]:
        """The jobs of a trial that was trained; none of one that could not begin, or has those of another."""
        arm = trial.user_attrs[ARM]
        return self.jobs_of({arm: overrides(trial.params)}) if is_trained(trial) else []

    def possible(self, arm: str, own: Mapping[str, Any]) -> list[Job]:
        """The jobs of a trial. Raises `BadInput` as `jobs_of`, and for what would end before it begins."""
        todo = self.jobs_of({arm: own})
        pointless(planned_arms(todo))
        return todo

    def is_fit(self, own: Mapping[str, Any]) -> bool:
        """Whether a trial could have these overrides."""
        try:
            self.possible(EXAMPLE, own)
        except BadInput:
            return False
        return True

    def twin(self, trial: Trial) -> str | None:
        """The arm that is trained for all trials of this one's content: that of the first; None where this is it."""
        same = [t for t in last_of_each(trial.study) if t.user_attrs.get(CONTENT) == trial.user_attrs[CONTENT]]
        first = next(filter(is_settled, same), same[0]).user_attrs[ARM]
        return None if first == trial.user_attrs[ARM] else first

    def settled(self, study: Study, arm: str) -> FrozenTrial:
        """The trial of an arm, once it came to an end. Raises `Behind` where its worker left it."""
        while True:
            leave_if_asked()
            with self.turn():
                self.tidy(study)
            other = next(trial for trial in last_of_each(study) if trial.user_attrs[ARM] == arm)
            if is_settled(other):
                return other
            if other.state == TrialState.WAITING:
                raise Behind(arm)
            time.sleep(LOOK)

    def bring_on(self, trial: Trial, job: Job, todo: Sequence[Job]) -> None:
        """Train one of the trial's jobs to its end: its arm on the first seed no further than the pruner lets it."""
        trial.storage.check_trial_is_updatable(trial._trial_id, trial.storage.get_trial(trial._trial_id).state)
        watched = job is next(one for one in todo if one.arm == todo[-1].arm)
        stops = job.evaluations if watched and self.prunes else [job.stop]
        for stop in stops:
            self.train(replace(job, stop=stop), todo)
            if not watched or self.prunes is None:
                continue
            before = shown(trial, self.prunes)
            if stop < max(map(int, before), default=0):  # judged there before it was broken off
                continue
            if (row := self.prunes.of(self.rows(job, stop))) is None:
                continue
            if str(stop) not in before:
                self.show(trial, self.prunes, stop, row.value)
            if stop < job.stop and is_hopeless(trial, self.pruner, self.prunes):
                log.info("%s: pruned at step %d, where %s is %.4g", job.arm, stop, self.prunes.name, row.value)
                trial.set_user_attr(PRUNED, {"step": stop, "by": self.prunes.name, "value": row.value})
                raise optuna.TrialPruned

    def show(self, trial: Trial, prunes: Objective, step: int, value: float) -> None:
        """Keep what the trial is pruned by; samplers and dashboards see it where it is the one objective."""
        show(trial, prunes, step, value)
        only = self.objectives[0]
        if len(self.objectives) == 1 and (prunes.measures, prunes.direction) == (only.measures, only.direction):
            trial.report(value, step)

    def train(self, job: Job, todo: Sequence[Job]) -> None:
        """Mend and train one of the jobs; where another worker is at it, wait, and take what it left."""
        pool = self.pools(job.settings.data)
        own = {"device": self.device}
        if failed := patiently(lambda: bring_to_end([job], todo, pool, self.evaluator, **own), name=job.name):
            raise failed[job.name]

    def measured(self, todo: Sequence[Job]) -> Measured:
        """Each objective of each seed that came to its end with a finite value, with its interval over images."""
        values: Measured = {objective.name: [] for objective in self.objectives}
        for job in (one for one in todo if is_done(one)):
            for objective in self.objectives:
                value, low, high = self.value(job, objective)
                if math.isfinite(value):
                    values[objective.name].append((job.seed, value, or_null(low), or_null(high)))
        return values

    def value(self, job: Job, objective: Objective) -> Interval:
        """An objective of a job that came to its end; NaN where it has no value or no interval."""
        if objective.name == HOURS:
            return Interval(seconds(job) / 3600, math.nan, math.nan)
        if objective.fall:
            return fallen(self.way(job, objective))
        row = objective.of(self.rows(job, job.stop))
        return Interval(row.value, row.low, row.high) if row else NOTHING

    def way(self, job: Job, objective: Objective) -> list[tuple[Row, Path]]:
        """What a job's evaluations found of a measure, and where their outcomes lie: from its fork, or step 0, to its
        end; none where that was not evaluated.

        The fork is evaluated with the parent, and counts: what a trial begins with it can lose.
        """
        fork = [] if job.parent is None else [(job.parent, job.start)]
        places = [*fork, *((job, step) for step in job.evaluations)]
        found = [(objective.of(self.rows(*place)), self.evaluator.outcomes(step_folder(*place))) for place in places]
        return [(row, folder) for row, folder in found if row is not None] if found[-1][0] is not None else []

    def measured_arms(self, todo: Sequence[Job]) -> dict[str, Measured]:
        """The objectives of each arm among jobs."""
        arms = dict.fromkeys(job.arm for job in todo if job.arm != TRUNK)
        return {arm: self.measured([job for job in todo if job.arm == arm]) for arm in arms}

    def rows(self, job: Job, step: int) -> list[Row]:
        """What an evaluation of a job found, as the evaluated step holds it."""
        mark = read_mark(self.evaluator.mark(step_folder(job, step)))
        return [] if mark is None else mark.rows


def is_trained(trial: FrozenTrial) -> bool:
    """Whether it was trained itself, rather than told what an equal one found."""
    return trial.user_attrs.get(TRAINED_AS) == trial.user_attrs[ARM]


def content(todo: Sequence[Job]) -> str:
    """What makes two trials one: all that shapes their arms, and how long these are."""
    return identity([[job.identity, job.stop] for job in todo])


def or_null(end: float) -> float | None:
    """The end of an interval as JSON has it, null where there is none."""
    return end if math.isfinite(end) else None


def seconds(job: Job) -> float:
    """Seconds of training from where the job begins to its end, straight between logged steps; NaN where none tells."""
    logged = read_lines(job.folder / "metrics.jsonl", CurvePoint).rows
    line = {job.root.start: 0.0} | {point["step"]: point["seconds"] for point in logged if "seconds" in point}
    if len(line) == 1:
        return math.nan
    steps = sorted(line)
    begun, ended = np.interp([job.start, job.stop], steps, [line[step] for step in steps])
    return float(ended - begun)


def tell_as(trial: Trial, twin: FrozenTrial) -> list[float]:
    """The objectives of a trial that another one of equal content has; it ends as that one did."""
    for step, value in twin.intermediate_values.items():
        trial.report(value, step)
    if twin.state == TrialState.PRUNED:
        trial.set_user_attr(PRUNED, twin.user_attrs.get(PRUNED))
        raise optuna.TrialPruned
    if twin.values is None:
        trial.set_user_attr(REASON, reason := twin.user_attrs[REASON])
        raise Unfit(reason)
    trial.set_user_attr(MEASURED, twin.user_attrs[MEASURED])
    return twin.values
