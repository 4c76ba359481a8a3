"""What a worker does on a study until its trials are there: claim one, carry it out, and begin again."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import Any

import optuna
from optuna import Study, Trial
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import get_heartbeat_thread  # as Study.optimize has it; there is no public name for it
from optuna.trial import TrialState

from common.interrupts import leave_if_asked
from harness.step import NonFinite
from harness.sweeps import methods
from harness.sweeps.storage import Storage
from harness.sweeps.study import ARM, begun
from harness.sweeps.trial import Behind, Trials, Unfit
from harness.workplace import LOOK

log = logging.getLogger("gramlab")


def work(trials: Trials, study: Study, storage: Storage, *, ended: Callable[[int], None]) -> None:
    """Carry out trials until the study has as many as it shall have, and all of them came to an end.

    Args:
        ended: called with the number of each trial, by one worker at a time.
    """
    waits = False
    while True:
        leave_if_asked()
        with ExitStack() as turn:
            turn.enter_context(trials.turn())
            trials.tidy(study)
            states = {trial.state for trial in study.get_trials(deepcopy=False)}
            if TrialState.WAITING in states or begun(study) < trials.experiment.sweep.trials:
                number = carry_out_one(trials, study, storage, claimed=turn.close)
                turn.close()
                if number is not None:
                    with trials.turn():
                        ended(number)
                waits = False
                continue
        if TrialState.RUNNING not in states:
            return
        if not waits:
            log.info("no trial is left to begin: waits for those of other workers")
        waits = True
        time.sleep(LOOK)


def carry_out_one(trials: Trials, study: Study, storage: Storage, *, claimed: Callable[[], None]) -> int | None:
    """Carry out one trial, and call `claimed` once no other worker would begin it; returns its number, None if left.

    One that is broken off is left as failed without a reason, from where `tidy` puts it back into the queue; its
    training then goes on from its last state.
    """
    study.sampler = methods.sampler(trials.experiment.sweep, before=begun(study))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage")  # which beats below
        trial = study.ask()
    with trials.at_work(trial):
        try:
            with get_heartbeat_thread(trial._trial_id, storage):
                study.tell(trial, **outcome(trials, trial, storage, claimed), skip_if_finished=True)
        except UpdateFinishedTrialError:
            log.info("%s: taken up by another worker while this one stood still; leaves it", trial.user_attrs.get(ARM))
            return None
        except BaseException as error:
            with suppress(UpdateFinishedTrialError):
                trial.storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            if not isinstance(error, Behind):
                raise
            log.info("%s: goes back into the queue, behind %s, whose worker is gone", trial.user_attrs.get(ARM), error)
            return None
    return trial.number


def outcome(trials: Trials, trial: Trial, storage: Storage, claimed: Callable[[], None]) -> dict[str, Any]:
    """What `Study.tell` is told of a trial: its values, or that it was pruned or failed."""
    try:
        return {"values": trials.carry_out(trial, storage, claimed)}
    except optuna.TrialPruned:
        return {"state": TrialState.PRUNED}
    except (Unfit, NonFinite) as error:
        log.error("%s: failed: %s", trial.user_attrs[ARM], error)
        return {"state": TrialState.FAIL}
