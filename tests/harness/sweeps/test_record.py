"""Which trials a sweep's record names as its front."""

import optuna
from optuna.trial import TrialState

from harness.sweeps.record import front
from harness.sweeps.study import ARM
from harness.sweeps.trial import TRAINED_AS


def tried(arm, trained_as, value=None):
    state = TrialState.FAIL if value is None else TrialState.COMPLETE
    return optuna.create_trial(state=state, value=value, user_attrs={ARM: arm, TRAINED_AS: trained_as})


def test_of_equal_trials_the_front_names_that_which_was_trained_also_where_it_was_taken_up_again_later():
    study = optuna.create_study(direction="maximize")
    for trial in (
        tried("trial-0000", "trial-0000"),  # its worker is gone
        tried("trial-0001", "trial-0000", 1.0),  # waited for it, and brought it to its end
        tried("trial-0002", "trial-0000", 1.0),
        tried("trial-0000", "trial-0000", 1.0),
    ):
        study.add_trial(trial)
    assert [trial.user_attrs[ARM] for trial in front(study)] == ["trial-0000"]
