"""Whose trials go back into the queue of a study, and how often."""

import optuna
import pytest
from optuna.trial import TrialState

from harness.sweeps.journal import Journal
from harness.sweeps.study import ARM, REASON, tidy

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


@pytest.fixture
def study(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    storage = Journal(tmp_path / "study.journal", heartbeat=60, when_stale=lambda *_: None)
    return optuna.create_study(storage=storage)


def begun(study, **attributes):
    trial = study.ask()
    for key, value in {ARM: f"trial-{trial.number:04d}", **attributes}.items():
        trial.set_user_attr(key, value)
    return trial


def queued(study):
    return [trial.user_attrs[ARM] for trial in study.get_trials(states=(TrialState.WAITING,))]


def test_a_trial_that_was_broken_off_goes_back_into_the_queue_once_whoever_looks(study):
    study.tell(begun(study), state=TrialState.FAIL)
    for _ in range(3):
        tidy(study)
    assert queued(study) == ["trial-0000"]


def test_one_that_failed_of_its_own_or_is_taken_up_already_does_not(study):
    study.tell(begun(study, **{REASON: "its settings"}), state=TrialState.FAIL)
    study.tell(begun(study), state=TrialState.FAIL)
    tidy(study)
    taken = study.ask()
    tidy(study)
    assert taken.user_attrs[ARM] == "trial-0001"
    assert queued(study) == []
    study.tell(taken, 1.0)
    tidy(study)
    assert queued(study) == []


def test_one_whose_worker_died_as_it_claimed_it_is_forgotten(study):
    study.ask()
    tidy(study)
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]
