"""What a worker does on a study until its trials are there: claim one, carry it out, and begin again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from optuna import Study, Trial
from optuna.trial import TrialState

from common.disk import alone
from harness.step import NonFinite
from harness.sweeps import methods
from harness.sweeps.storage import Storage
from harness.sweeps.study import again, begun, tidy
from harness.sweeps.trial import Trials, Unfit
from harness.workplace import LOOK

log = logging.getLogger("gramlab")


def work(trials: Trials, study: Study, storage: Storage, *, ended: Callable[[int], None]) -> None:
    """Carry out trials until the study has as many as it shall have, and all of them came to an end.

    Args:
        ended: called with the number of each trial, by one worker at a time.
    """
    waits = False
    while True:
        with ExitStack() as turn:
            turn.enter_context(alone(turns(trials.folder)))
            tidy(study)
            known = study.get_trials(deepcopy=False)
            states = [trial.state for trial in known]
            if TrialState.WAITING in states or begun(known) < trials.experiment.sweep.trials:
                number = carry_out_one(trials, study, storage, claimed=turn.close)
                turn.close()
                with alone(turns(trials.folder)):
                    ended(number)
                waits = False
                continue
        if TrialState.RUNNING not in states:
            return
        if not waits:
            log.info("no trial is left to begin: waits for those of other workers")
        waits = True
        time.sleep(LOOK)


def turns(folder: Path) -> Path:
    """The folder by which the workers of a sweep take turns: claims are made one at a time."""
    return folder / ".turns"


def carry_out_one(trials: Trials, study: Study, storage: Storage, *, claimed: Callable[[], None]) -> int:
    """Carry out one trial, and call `claimed` once no other worker would begin it; returns its number.

    One that is broken off goes back into the queue; its training then goes on from its last state.
    """
    study.sampler = methods.sampler(trials.experiment.sweep, before=begun(study.get_trials(deepcopy=False)))
    numbers: list[int] = []

    def objective(trial: Trial) -> list[float]:
        numbers.append(trial.number)
        return trials.carry_out(trial, storage, claimed)

    try:
        study.optimize(objective, n_trials=1, catch=(Unfit, NonFinite))
    except BaseException:
        for number in numbers:
            again(study, number)
        raise
    return numbers[0]
