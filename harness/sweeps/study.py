"""The study of a sweep: what it is bound to, and which of its trials is worked at next."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from typing import Any

import optuna
from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from common.errors import BadInput
from harness.config import identity
from harness.job_folder import differences
from harness.sweep_settings import Sweep
from harness.sweeps.objectives import Objective
from harness.sweeps.storage import Storage

ARM, REASON, SCIENCE = "arm", "reason", "gramlab"  # attributes of a trial, the last of the study


def find(storage: Storage, name: str, science: Mapping[str, Any]) -> Study | None:
    """The study of that name, if there is one. Raises `BadInput` where other settings made it."""
    if name not in optuna.get_all_study_names(storage):
        return None
    study = optuna.load_study(study_name=name, storage=storage)
    bound = study.user_attrs.get(SCIENCE)
    if bound is None and not study.get_trials(deepcopy=False):  # another worker makes it just now, or died of that
        return None
    if bound is None:
        raise BadInput(f"the study {name!r} is none of a sweep's: want another name=... or another sweep.storage")
    if bound["identity"] != identity(science):
        raise BadInput(
            f"the study {name!r} was made by other settings ({differences(bound['science'], science)}): want those, or "
            "another name=... for a new study"
        )
    return study


def made(storage: Storage, name: str, science: Mapping[str, Any], goals: Sequence[Objective]) -> Study:
    """The study of that name, new where there is none; to be called by one worker at a time."""
    if (study := find(storage, name, science)) is not None:
        return study
    study = optuna.create_study(
        study_name=name, storage=storage, directions=[goal.direction for goal in goals], load_if_exists=True
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([goal.name for goal in goals])  # for a dashboard
    study.set_user_attr(SCIENCE, {"identity": identity(science), "science": dict(science)})
    return study


def tidy(study: Study, *, gone: Collection[int] = ()) -> None:
    """Put the trials that were broken off back into the queue, each once; to be called by one worker at a time.

    That is, those whose worker says so, or gives no sign of life. A running trial without an arm was left by a worker
    that died while it claimed it, since claims are made one at a time; it drew nothing yet, so nothing is lost with it.

    gone: numbers of trials whose worker is known to have ended.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)
        again = RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if ARM not in trial.user_attrs or trial.number in gone:
            study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)
    for trial in last_of_each(study):
        if trial.state == TrialState.FAIL and not is_settled(trial):
            again(study, deepcopy(trial))


def is_settled(trial: FrozenTrial) -> bool:
    """Whether a trial came to an end of its own: not one that was broken off."""
    return trial.state in (TrialState.COMPLETE, TrialState.PRUNED) or REASON in trial.user_attrs


def begun(study: Study) -> int:
    """How many trials of the study count, one that was taken up again once."""
    return len(last_of_each(study))


def left(study: Study | None, sweep: Sweep) -> int:
    """How many trials are to be brought to an end yet, those that are begun among them."""
    known = [] if study is None else last_of_each(study)
    return max(sweep.trials, len(known)) - sum(map(is_settled, known))


def last_of_each(study: Study) -> list[FrozenTrial]:
    """The trials that count, each as it was last taken up, in the order of their arms."""
    found: dict[str, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        if ARM in trial.user_attrs:
            found[trial.user_attrs[ARM]] = trial
    return [*found.values()]
