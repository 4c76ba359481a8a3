"""What a sweep found: `sweep.json` for its report, and an experiment file for each member of its front."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from optuna import Study
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from common.disk import write_json, write_text
from common.records import read_record
from common.sweep_records import Swept
from harness.config import as_dict
from harness.measures import COLUMN
from harness.settings import Experiment
from harness.sweeps import methods
from harness.sweeps.objectives import Objective
from harness.sweeps.pruning import shown
from harness.sweeps.space import overrides
from harness.sweeps.study import ARM, REASON, begun, is_settled, last_of_each
from harness.sweeps.trial import MEASURED, PRUNED, TRAINED_AS, Measured, Trials, is_trained

FEWEST = 4  # completed trials below which nothing is said of importances
TOP = 5  # trials that the best quantile of an importance holds, where there are twice as many
FRESH = 3  # seeds of a front member's experiment
SHOWN_OF = ("name", "label", "higher_is_better", "direction", "fall", "unit", "share")  # an objective
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}


def sweep_json(folder: Path) -> Path:
    """Where the record of a sweep lies."""
    return folder / "sweep.json"


def recorded(folder: Path) -> Swept:
    """What the record says so far. Raises `BadInput` when it is damaged."""
    path = sweep_json(folder)
    return read_record(path, Swept, remedy="remove it: the next trial writes it anew") if path.exists() else {}


def write(trials: Trials, study: Study, references: dict[str, Measured]) -> None:
    """Replace the record by what the study holds now; what was confirmed before stays in it."""
    experiment, sweep = trials.experiment, trials.experiment.sweep
    known = last_of_each(study)
    record = {
        **{key: getattr(experiment, key) for key in ("name", "question", "source", "seeds", "steps")},
        "objectives": [described(one) for one in trials.objectives],
        "pruned_by": described(trials.prunes) if trials.prunes else None,
        "sampler": methods.words(sweep.sampler),
        "pruner": methods.words(sweep.pruner),
        "space": as_dict(sweep.space),
        "wanted": max(sweep.trials, len(known)),
        "trials": [entry(trial, trials.prunes) for trial in known],
        "front": [trial.user_attrs[ARM] for trial in front(study)],
        "importances": importances(study, trials.objectives),
        "references": references,
        "confirmed": recorded(trials.folder).get("confirmed", {}),
    }
    write_json(sweep_json(trials.folder), record)


def described(objective: Objective) -> dict[str, Any]:
    """An objective as the report shows it."""
    measure = dict(zip(COLUMN, objective.column, strict=False))
    return {
        **{key: getattr(objective, key) for key in SHOWN_OF},
        **{key: measure[key] for key in ("eval", "dataset", "metric") if key in measure},
    }


def entry(trial: FrozenTrial, prunes: Objective | None) -> dict[str, Any]:
    """A trial as the record has it; times are seconds since 1970."""
    own, times = trial.user_attrs, (trial.datetime_start, trial.datetime_complete)
    return {
        "arm": own[ARM],
        "same_as": own[TRAINED_AS] if is_settled(trial) and own.get(TRAINED_AS, own[ARM]) != own[ARM] else None,
        "state": state(trial),
        "params": overrides(trial.params),
        "values": own.get(MEASURED, {}),
        "shown": shown(trial, prunes) if prunes else {},
        "pruned": own.get(PRUNED),
        "reason": own.get(REASON),
        "began": times[0].timestamp() if times[0] else None,
        "ended": times[1].timestamp() if times[1] else None,
    }


def state(trial: FrozenTrial) -> str:
    """How a trial ended, or that it has not."""
    if is_settled(trial):
        return STATES[trial.state]
    return "running" if trial.state == TrialState.RUNNING else "broken off"


def front(study: Study) -> list[FrozenTrial]:
    """The trials that no other beats in every objective, each content once; of one objective, the best one."""
    if not any(trial.state == TrialState.COMPLETE for trial in study.get_trials(deepcopy=False)):
        return []
    found: dict[str, FrozenTrial] = {}
    # equal ones: that which was trained, which may have been taken up after another, else the first
    for trial in sorted(study.best_trials, key=lambda trial: (is_trained(trial), -trial.number)):
        found[trial.user_attrs[TRAINED_AS]] = trial
    return [found[arm] for arm in sorted(found)]


def arms(trials: Iterable[FrozenTrial]) -> dict[str, dict[str, Any]]:
    """Trials as arms of an experiment."""
    return {trial.user_attrs[ARM]: overrides(trial.params) for trial in trials}


def importances(study: Study, objectives: Sequence[Objective]) -> dict[str, dict[str, float]]:
    """For each objective the share of each parameter in what sets the best trials apart (PED-ANOVA), where enough ran.

    arXiv 2304.10255. The best are a tenth of the trials, but no fewer than `TOP` where there are twice as many.
    """
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
    if len(done) < FEWEST:
        return {}
    best = min(0.5, max(0.1, TOP / len(done)))
    found = {}
    for number, objective in enumerate(objectives):
        if len({trial.values[number] for trial in done}) == 1:  # nothing sets the best apart
            continue
        sign = -1.0 if objective.direction == "maximize" else 1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found[objective.name] = get_param_importances(
                study,
                evaluator=PedAnovaImportanceEvaluator(target_quantile=best),
                target=lambda trial, number=number, sign=sign: sign * trial.values[number],
            )
    return {name: {key: value for key, value in one.items() if math.isfinite(value)} for name, one in found.items()}


def fresh(experiment: Experiment, count: int) -> list[int]:
    """Seeds that the sweep has not seen."""
    first = max(experiment.seeds) + 1
    return [*range(first, first + count)]


def confirming(
    experiment: Experiment, members: dict[str, dict[str, Any]], *, name: str, seeds: list[int]
) -> Experiment:
    """An experiment that trains members of the front on other seeds, beside the sweep's own arms or the plain one."""
    others = experiment.arms or {"plain": {}}
    return replace(
        experiment,
        name=name,
        expected="Less than in the sweep: the best of many trials owes a part of its lead to luck.",
        cost="",
        arms={**others, **members},
        baseline=experiment.baseline or next(iter(others)),
        seeds=seeds,
        sweep=type(experiment.sweep)(),
    )


def write_front(folder: Path, experiment: Experiment, study: Study) -> None:
    """An experiment file for each member of the front, in place of those of earlier fronts."""
    members = arms(front(study))
    count = begun(study)
    for path in (folder / "front").glob("*.yaml"):
        if path.stem not in members:
            path.unlink()
    for arm, own in members.items():
        one = confirming(experiment, {arm: own}, name=f"{experiment.name}-{arm}", seeds=fresh(experiment, FRESH))
        plain = {key: value for key, value in as_dict(one).items() if key != "sweep"}
        text = (
            f"# {arm} of the sweep {experiment.name}, on the front after {count} trials.\n#\n"
            f"# The sweep saw seeds {', '.join(map(str, experiment.seeds))}; these are fresh ones, since the best of "
            "many trials is optimistic.\n"
        )
        write_text(folder / "front" / f"{arm}.yaml", text + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))


def confirmed(folder: Path, found: dict[str, Measured], seeds: Sequence[int]) -> None:
    """Add what fresh seeds gave to the record."""
    write_json(sweep_json(folder), {**recorded(folder), "confirmed": {"seeds": [*seeds], "values": found}})
