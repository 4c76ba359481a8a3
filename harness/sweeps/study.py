"""The study of a sweep: where it is kept, what it is bound to, and which of its trials is worked at next."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna import Study
from optuna.exceptions import ExperimentalWarning
from optuna.storages import RDBStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.trial import FrozenTrial, TrialState

from common.errors import BadInput, first_line
from common.schema import shown
from harness.config import identity
from harness.layers import flatten
from harness.sweep_settings import Sweep
from harness.sweeps.journal import Journal
from harness.sweeps.objectives import Objective

ARM, SCIENCE = "arm", "gramlab"  # attributes of a trial and of the study
PATIENCE = 5  # seconds for a server to answer
SQLITE_PATIENCE = 60  # seconds for other workers to be done with the file
DIFFERENCES = 3  # that a refusal names
Storage = Journal | RDBStorage


def journal_path(folder: Path) -> Path:
    """Where the study is kept when no URL says otherwise."""
    return folder / "study.journal"


def is_there(sweep: Sweep, folder: Path) -> bool:
    """Whether there is a storage to look into: a look must not make one. Raises `BadInput` where none can be made."""
    if sweep.storage is None:
        return journal_path(folder).is_file()
    if not sweep.storage.startswith("sqlite"):
        return True
    if (file := re.fullmatch(r"sqlite:///(?!:memory:)(.+)", sweep.storage)) is None:
        raise BadInput(
            f"sweep.storage={sweep.storage}: a study in memory is lost with its process: want sqlite:///FILE"
        )
    if not (path := Path(file[1])).parent.is_dir():
        raise BadInput(f"sweep.storage={sweep.storage}: no folder {path.parent}: want one that is there; make it first")
    return path.is_file()


def opened(sweep: Sweep, folder: Path) -> Storage:
    """The storage. Raises `BadInput` for one that does not answer in a few seconds, or holds something else."""
    place = sweep.storage or str(journal_path(folder))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            again = RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)
            if sweep.storage is None:
                return Journal(journal_path(folder), heartbeat=sweep.heartbeat, when_stale=again)
            return RDBStorage(
                _with_driver(sweep.storage),
                engine_kwargs={"connect_args": _patience(sweep.storage), "pool_pre_ping": True},
                heartbeat_interval=sweep.heartbeat,
                heartbeat_stale_trial_callback=again,
            )
    except Exception as error:  # of SQLAlchemy, of a driver, or of the journal's parser
        want = (
            "want sqlite:///FILE in a folder that is there, or postgresql://USER:PASSWORD@HOST/NAME of a server that "
            "runs; null keeps the study in the run's folder"
            if sweep.storage
            else "want the journal that a sweep wrote; move it away, and a new study takes up what is trained"
        )
        raise BadInput(f"sweep.storage={_unsigned(place)} does not answer ({_said(error)}): {want}") from error


def find(storage: Storage, name: str, science: Mapping[str, Any]) -> Study | None:
    """The study of that name, if there is one. Raises `BadInput` where other settings made it."""
    if name not in optuna.get_all_study_names(storage):
        return None
    study = optuna.load_study(study_name=name, storage=storage)
    bound = study.user_attrs.get(SCIENCE)
    if bound is None:
        raise BadInput(f"the study {name!r} is none of a sweep's: want another name=... or another sweep.storage")
    if bound["identity"] != identity(science):
        raise BadInput(
            f"the study {name!r} was made by other settings: {_differences(bound['science'], science)}; want those, "
            "or another name=... for a new study"
        )
    return study


def made(storage: Storage, name: str, science: Mapping[str, Any], goals: Sequence[Objective]) -> Study:
    """The study of that name, new where there is none; to be called by one worker at a time."""
    if (study := find(storage, name, science)) is not None:
        return study
    study = optuna.create_study(study_name=name, storage=storage, directions=[goal.direction for goal in goals])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        study.set_metric_names([goal.name for goal in goals])  # for a dashboard
    study.set_user_attr(SCIENCE, {"identity": identity(science), "science": dict(science)})
    return study


def tidy(study: Study) -> None:
    """Take up the trials of workers that are gone; to be called by one worker at a time.

    A running trial without an arm was left by a worker that died while it claimed it, since claims are made one at a
    time; it drew nothing yet, and nothing is lost with it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        if ARM not in trial.user_attrs:
            study.tell(trial.number, state=TrialState.FAIL)


def again(study: Study, number: int) -> None:
    """Put a trial that was broken off back into the queue, as one whose worker is gone."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)(study, study.trials[number])


def begun(trials: Sequence[FrozenTrial]) -> int:
    """How many trials of the study count, one that was taken up again once."""
    return len({trial.user_attrs[ARM] for trial in trials if ARM in trial.user_attrs})


def last_of_each(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The trials that count, each as it was last taken up, in the order of their arms."""
    found: dict[str, FrozenTrial] = {}
    for trial in trials:
        if ARM in trial.user_attrs:
            found[trial.user_attrs[ARM]] = trial
    return [*found.values()]


def _with_driver(url: str) -> str:
    return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", url)


def _patience(url: str) -> dict[str, int]:
    return {"connect_timeout": PATIENCE} if url.startswith("postgres") else {"timeout": SQLITE_PATIENCE}


def _unsigned(url: str) -> str:
    """Without the password, which belongs in no log."""
    return re.sub(r"(://[^:/@]+):[^@]*@", r"\1:…@", url)


def _said(error: Exception) -> str:
    """The first words of an error, those of the driver where one was at fault."""
    cause = getattr(error, "orig", None) or error.__cause__ or error
    return _unsigned(first_line(getattr(cause, "orig", None) or cause))


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    old, new = flatten(before), flatten(now)
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    told = [f"{key} was {shown(old.get(key))} and is {shown(new.get(key))}" for key in keys[:DIFFERENCES]]
    more = f" and {len(keys) - DIFFERENCES} more" if len(keys) > DIFFERENCES else ""
    return ", ".join(told) + more
