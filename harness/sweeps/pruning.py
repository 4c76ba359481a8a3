"""When a trial is ended early: Optuna's pruners, asked about one measure whatever the objectives are.

Optuna prunes studies of one objective by that objective alone. So what a trial showed on its way is kept in its user
attributes, and the pruner is asked about a copy of the study in memory whose one objective is the measure to prune by.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna import Study, Trial
from optuna.pruners import BasePruner
from optuna.trial import FrozenTrial, TrialState

from harness.sweeps.objectives import Objective

SHOWN, NOTED = "shown", "pruner"  # user attributes: values by step, and what the pruner itself keeps of a trial


def attribute(name: str, objective: Objective) -> str:
    """The user attribute for a measure: a study may go on with another one, and compares like with like."""
    return "/".join((name, *objective.column))


def shown(trial: Trial | FrozenTrial, objective: Objective) -> dict[str, float]:
    """What a trial showed of a measure, by step."""
    return trial.user_attrs.get(attribute(SHOWN, objective), {})


def show(trial: Trial, objective: Objective, step: int, value: float) -> None:
    """Keep what a trial showed after a step."""
    trial.set_user_attr(attribute(SHOWN, objective), {**shown(trial, objective), str(step): value})


def is_hopeless(trial: Trial, pruner: BasePruner, objective: Objective) -> bool:
    """Whether the pruner would end the trial after what it has shown so far."""
    twin = _twin(trial.study, objective)
    asked = twin.get_trials(deepcopy=True)[trial.number]
    pruned = bool(pruner.prune(twin, asked))
    noted, key = twin.get_trials(deepcopy=False)[trial.number].system_attrs, attribute(NOTED, objective)
    if noted != trial.user_attrs.get(key, {}):
        trial.set_user_attr(key, noted)
    return pruned


def _twin(study: Study, objective: Objective) -> Study:
    """The study with the measure for its objective, in memory."""
    twin = optuna.create_study(study_name=study.study_name, direction=objective.direction)
    for trial in study.get_trials(deepcopy=False):
        twin.add_trial(_as_shown(trial, objective))
    return twin


def _as_shown(trial: FrozenTrial, objective: Objective) -> FrozenTrial:
    values = {int(step): value for step, value in shown(trial, objective).items()}
    last: Mapping[str, Any] = {"value": values[max(values)]} if values and trial.state == TrialState.COMPLETE else {}
    state = trial.state
    if state == TrialState.COMPLETE and not values:  # nothing that a pruner could compare with
        state = TrialState.FAIL
    noted = dict(trial.user_attrs.get(attribute(NOTED, objective), {}))
    return optuna.create_trial(state=state, intermediate_values=values, system_attrs=noted, **last)
