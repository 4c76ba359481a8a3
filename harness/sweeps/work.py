"""What a worker does on a study until its trials are there: claim one, carry it out, and begin again."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from optuna import Study, Trial
from optuna.trial import TrialState

from harness.step import NonFinite
from harness.sweeps import methods
from harness.sweeps.study import Storage, again, begun, tidy
from harness.sweeps.trial import Trials, Unfit
from harness.sweeps.turn import Turn

log = logging.getLogger("gramlab")
WAITS = 1.0  # seconds between two looks at what other workers do


def work(trials: Trials, study: Study, storage: Storage, turn: Turn, *, ended: Callable[[int], None]) -> None:
    """Carry out trials until the study has as many as it shall have, and all of them came to an end.

    Args:
        turn: among the workers of the study; claims are made in it, so no two workers begin the same trial.
        ended: called in the turn after each trial, with its number.
    """
    waits = False
    while True:
        turn.take()
        try:
            tidy(study)
            known = study.get_trials(deepcopy=False)
            states = [trial.state for trial in known]
            if TrialState.WAITING in states or begun(known) < trials.experiment.sweep.trials:
                waits = False
                number = carry_out_one(trials, study, storage, turn)
                with turn:
                    ended(number)
                continue
        finally:
            turn.give_back()
        if TrialState.RUNNING not in states:
            return
        if not waits:
            log.info("no trial is left to begin: waits for those of other workers")
        waits = True
        time.sleep(WAITS)


def carry_out_one(trials: Trials, study: Study, storage: Storage, turn: Turn) -> int:
    """Carry out one trial, begun in the turn; returns its number.

    One that is broken off goes back into the queue; its training then goes on from its last state.
    """
    study.sampler = methods.sampler(trials.experiment.sweep, before=begun(study.get_trials(deepcopy=False)))
    numbers: list[int] = []

    def objective(trial: Trial) -> list[float]:
        numbers.append(trial.number)
        return trials.carry_out(trial, storage, turn)

    try:
        study.optimize(objective, n_trials=1, catch=(Unfit, NonFinite))
    except BaseException:
        for number in numbers:
            again(study, number)
        raise
    finally:
        turn.give_back()
    return numbers[0]
