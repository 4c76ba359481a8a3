"""Whose trials go back into the queue of a study, and how often."""

import dataclasses
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from common.errors import BadInput
from harness.sweeps.journal import Journal
from harness.sweeps.objectives import SPENT
from harness.sweeps.study import ARM, REASON, find, made, tidy
from harness.sweeps.trial import CLAIMS, Trials

pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage")


@pytest.fixture
def study(tmp_path):
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    storage = Journal(tmp_path / "study.journal", heartbeat=60)
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


def test_one_whose_worker_is_known_to_have_ended_goes_back_at_once_and_no_other_does(study):
    for _ in range(2):
        begun(study)
    tidy(study, gone=[1])
    assert queued(study) == ["trial-0001"]
    assert [trial.state for trial in study.trials[:2]] == [TrialState.RUNNING, TrialState.FAIL]


def test_a_trial_whose_worker_holds_it_stays_and_one_that_nobody_holds_goes_back(study, tmp_path):
    given: dict[str, Any] = dict.fromkeys(field.name for field in dataclasses.fields(Trials)) | {"folder": tmp_path}
    trials = Trials(**given)
    kept, left = begun(study), begun(study)
    (tmp_path / CLAIMS / "another machine" / "0").mkdir(parents=True)
    with trials.at_work(left):
        pass
    with trials.at_work(kept):
        trials.tidy(study)
        assert queued(study) == ["trial-0001"]
        assert sorted(place.name for place in trials.claims.iterdir()) == ["0"]
    assert [trial.state for trial in study.trials[:2]] == [TrialState.RUNNING, TrialState.FAIL]


def test_a_study_that_another_worker_is_making_is_not_there_yet_and_is_bound_by_who_comes_next(tmp_path):
    storage = Journal(tmp_path / "study.journal", heartbeat=60)
    optuna.create_study(study_name="tiny", storage=storage)
    assert find(storage, "tiny", {"steps": 6}) is None
    made(storage, "tiny", {"steps": 6}, [SPENT])
    assert find(storage, "tiny", {"steps": 6}) is not None
    with pytest.raises(BadInput, match=r"made by other settings \(steps was 6, is 8\)"):
        find(storage, "tiny", {"steps": 8})


def test_a_study_that_no_sweep_made_is_refused(tmp_path):
    storage = Journal(tmp_path / "study.journal", heartbeat=60)
    optuna.create_study(study_name="tiny", storage=storage).add_trial(optuna.create_trial(value=1.0))
    with pytest.raises(BadInput, match="the study 'tiny' is none of a sweep's"):
        find(storage, "tiny", {"steps": 6})
