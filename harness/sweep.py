"""A sweep: `gramlab sweep experiments/gram_sweep.yaml [key=value ...] [--trials N] [--plan] [--confirm K]`."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

import optuna
from optuna import Study
from optuna.trial import TrialState

from common.command import answer, end, number_of, parsed
from common.display import shown
from common.errors import BadInput
from common.interrupts import resumable
from common.machine import environment
from common.progress import telling
from common.ranks import refuse_one, refuse_several
from harness import arguments
from harness.config import SHARED, as_dict, load
from harness.data.pool import fingerprint
from harness.display import ShownSweep
from harness.evaluate import Evaluator
from harness.found import trained_lines
from harness.job import Job
from harness.job_folder import check
from harness.launchers import sequential
from harness.launchers.jobs import Work
from harness.opening import Opening, Planned, opened, planned
from harness.record import write_record
from harness.run import drawn, run, show
from harness.settings import Experiment
from harness.sweeps import methods, record, space, storage, study
from harness.sweeps.objectives import objectives, pruned_by
from harness.sweeps.pointless import pointless
from harness.sweeps.trial import EXAMPLE, NAMES, Trials, is_trained
from harness.sweeps.work import work
from harness.trackers.mirrors import mirrored
from harness.trackers.table import refuse_missing
from reports.sweep.build import build

log = logging.getLogger("gramlab")
FALLS = "a fall is from the best of a trial's evaluations to the last; the fork's, or step 0's, is one of them"


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 every trial failed, 2 bad input; 75 asked to leave, 130 interrupted: it goes on."""
    return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    args = parsed(arguments.sweep, "sweep", argv)
    trials = [] if args.trials is None else [f"sweep.trials={args.trials}"]
    if args.confirm is not None and args.confirm < 1:
        raise BadInput(f"--confirm {args.confirm}: want at least one seed")
    return sweep(load(args.experiment, [*args.overrides, *trials]), plan_only=args.plan, confirm=args.confirm)


def sweep(experiment: Experiment, *, plan_only: bool = False, confirm: int | None = None) -> int:
    """Plan a sweep, and carry out its trials or confirm its front."""
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    refuse_several("a sweep", "start the command several times instead: they share its trials")
    if not plan_only:
        if experiment.runtime.shard:
            refuse_one("runtime.shard=true", "the trials of a sweep have one: set it to false")
        refuse_missing(experiment.trackers)
    opening, trials, notes = prepared(experiment)
    experiment, folder = trials.experiment, trials.folder
    own_jobs = trials.jobs_of(experiment.arms)
    for job in own_jobs:
        check(job)
    science, found = science_of(trials), None
    if storage.is_there(experiment.sweep, folder):
        found = study.find(storage.opened(experiment.sweep, folder), experiment.name, science)
    if confirm is not None:
        if found is None or not record.front(found):
            raise BadInput(
                f"--confirm {confirm}: the study has no completed trial yet: want it without --confirm first"
            )
        return confirm_front(trials, found, confirm, plan_only=plan_only)
    opening, plan = planned_with(example(trials, found), trials, opening, left=study.left(found, experiment.sweep))
    print("\n".join([plan.text, *lines(trials), *notes, state(found, experiment)]), flush=True)
    if plan_only:
        print(f"timeline: {drawn(plan, opening, only=True)}")
        return 0
    with telling(folder / "log.txt"), resumable(), mirrored(folder, experiment.trackers):
        show(plan, opening, experiment)
        for line in plan.told:
            log.info("%s", line)
        with shown(ShownSweep(folder)):
            made = carry_out(trials, own_jobs, science)
        print(build(folder, draws=experiment.runtime.draw, tell=print))
        if {trial.state for trial in study.last_of_each(made)} == {TrialState.FAIL}:
            log.error("every trial failed: %s tells why", folder / "sweep.csv")
            return 1
    return 0


def carry_out(trials: Trials, own_jobs: Sequence[Job], science: dict[str, Any]) -> Study:
    """The arms that trials are compared with, then trials until the study has all; the record is renewed after each.

    An arm whose training is not finite is left out, and so is what forks from it.
    """
    experiment, folder = trials.experiment, trials.folder
    with trials.turn():
        store = storage.opened(experiment.sweep, folder)
        made = study.made(store, experiment.name, science, trials.objectives)
    sequential.launch(Work(experiment, folder, own_jobs, [], trials.pools, trials.evaluator, trials.device))
    references = trials.measured_arms(own_jobs)

    def keep(todo: Sequence[Job]) -> None:
        record.write(trials, made, references)
        record.write_front(folder, experiment, made)
        keep_arms(trials, made, todo)

    with trials.turn():
        keep(own_jobs)
    work(trials, made, store, ended=lambda number: keep(trials.jobs_again(made.trials[number])))
    return made


def prepared(experiment: Experiment) -> tuple[Opening, Trials, list[str]]:
    """What the trials have in common, checked without anything written, and notes on their space."""
    if (launcher := experiment.launcher.name) != "none":
        raise BadInput(
            f"launcher={launcher}: a sweep trains its trials itself: want launcher=none, and the same command again "
            "for each further worker"
        )
    if taken := [arm for arm in experiment.arms if NAMES.fullmatch(arm)]:
        raise BadInput(f"arms.{taken[0]}: a sweep calls its trials so: want another name")
    space.refuse_unfit(experiment.sweep)
    methods.sampler(experiment.sweep)
    opening = opened(experiment)
    experiment, spec = opening.experiment, opening.experiment.sweep
    evaluator = Evaluator(experiment, opening.folder)
    asked = objectives(spec, evaluator.tasks)
    trials = Trials(
        experiment=experiment,
        folder=opening.folder,
        objectives=asked,
        prunes=pruned_by(spec, evaluator.tasks, asked),
        pruner=methods.pruner(spec),
        pools=opening.pools,
        evaluator=evaluator,
        device=opening.device,
    )
    return opening, trials, pointless(trials)


def example(trials: Trials, found: Study | None) -> dict[str, Any]:
    """The overrides of a trial as the sampler would propose the next one. Raises `BadInput` where it cannot."""
    before = study.begun(found) if found else 0
    proposed = methods.rehearse(trials.experiment.sweep, [one.direction for one in trials.objectives], before=before)
    return next((one for one in proposed if trials.is_fit(one)), {})


def planned_with(own: dict[str, Any], trials: Trials, opening: Opening, *, left: int) -> tuple[Opening, Planned]:
    """The plan of the arms and of one trial, which stands for all that are left."""
    arms = {**trials.experiment.arms, EXAMPLE: own}
    shown = opening._replace(experiment=replace(trials.experiment, arms=arms, baseline=None))
    return shown, planned(shown, trials.jobs_of(arms), trials.evaluator, repeats={EXAMPLE: left})


def lines(trials: Trials) -> list[str]:
    """What is searched and how, for the plan; the arm `trial` above stands for each of them."""
    spec = trials.experiment.sweep
    goals, falls = ", ".join(one.words for one in trials.objectives), any(one.fall for one in trials.objectives)
    pruned = f", by {trials.prunes.name}" if trials.prunes else ""
    return [
        f"sweep of {spec.trials} trials, each like the arm `trial` above: {goals}",
        *([f"  {FALLS}"] if falls else []),
        *(f"  {key}: {space.words(key, parameter)}" for key, parameter in spec.space.items()),
        f"  {methods.words(spec.sampler)}; {methods.words(spec.pruner)}{pruned}",
    ]


def state(found: Study | None, experiment: Experiment) -> str:
    """How far the study is."""
    wanted, left = experiment.sweep.trials, study.left(found, experiment.sweep)
    if found is None:
        return f"a new study: {number_of(left, 'trial')} to do"
    known = study.last_of_each(found)
    has = f"the study has {number_of(len(known), 'trial')}"
    if not left:
        return f"nothing to do: {has}, all at an end, and sweep.trials={wanted} asks for no more"
    return f"{has}, {sum(map(study.is_settled, known))} of them at an end; {left} left to do for sweep.trials={wanted}"


def science_of(trials: Trials) -> dict[str, Any]:
    """All that a trial's values depend on, as users write it; how trials are proposed and pruned may change."""
    experiment = trials.experiment
    plain = {key: value for key, value in as_dict(experiment).items() if key not in SHARED}
    plain["data"] = {**plain["data"], "sources": fingerprint(trials.pools(experiment.data))}
    base = trials.jobs_of({EXAMPLE: {}})
    science = {
        **plain,
        "seeds": list(experiment.seeds),
        "steps": experiment.steps,
        "trunk": {key: value for key, value in as_dict(experiment.trunk).items() if key != "checkpoint"},
        "evals": {"every": experiment.evals.every, "identity": trials.evaluator.identity},
        "sweep": {"objectives": list(experiment.sweep.objectives), "space": as_dict(experiment.sweep.space)},
        "parent": {"identity": [job.identity for job in base]},
    }
    return json.loads(json.dumps(science))


def keep_arms(trials: Trials, made: Study, todo: Sequence[Job]) -> None:
    """Renew `experiment.json`, in which the trials that were trained are arms beside the experiment's own."""
    own = record.arms(filter(is_trained, study.last_of_each(made)))
    experiment = replace(trials.experiment, arms={**trials.experiment.arms, **own})
    machine = environment(trials.device, precision=experiment.precision)
    evaluator = trials.evaluator
    told, identity = trained_lines(todo, trials.pools), evaluator.identity
    write_record(trials.folder, experiment, todo, evaluator.tasks, machine, trained=told, evaluations=identity)


def confirm_front(trials: Trials, found: Study, count: int, *, plan_only: bool) -> int:
    """Train the members of the front on fresh seeds, in an experiment of its own, and draw the sweep again."""
    experiment, seeds = trials.experiment, record.fresh(trials.experiment, count)
    members = record.arms(record.front(found))
    again = record.confirming(experiment, members, name=f"{experiment.name}-confirm", seeds=seeds)
    code = run(again, plan_only=plan_only)
    if plan_only:
        return code
    folder = trials.folder.with_name(again.name)
    seen = replace(trials, experiment=again, folder=folder, evaluator=Evaluator(again, folder))
    with trials.turn():
        record.confirmed(trials.folder, seen.measured_arms(seen.jobs_of(again.arms)), seeds)
        print(build(trials.folder, draws=experiment.runtime.draw, tell=print))
    return code


if __name__ == "__main__":
    end(main())
