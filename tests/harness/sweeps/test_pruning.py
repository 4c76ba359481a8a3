"""Optuna's pruners asked about one measure, whatever the objectives are."""

import optuna
import pytest

from common.schema import filled
from harness.sweep_settings import Sweep
from harness.sweeps import methods
from harness.sweeps.objectives import Objective
from harness.sweeps.pruning import is_hopeless, show

UP = Objective("health.rankme", "RankMe", higher_is_better=True, column=("health",))
DOWN = Objective("depth.rmse", "RMSE", higher_is_better=False, column=("depth",))
MEDIAN = optuna.pruners.MedianPruner(n_startup_trials=2)


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)


def study_of(finished, directions=("maximize", "minimize"), measure=UP):
    """A study whose trials showed these values at steps 10, 20, …"""
    study = optuna.create_study(directions=directions)
    for values in finished:
        trial = study.ask()
        for number, value in enumerate(values, 1):
            show(trial, measure, 10 * number, value)
        study.tell(trial, [0.0] * len(directions))
    return study


@pytest.mark.parametrize("directions", [("maximize",), ("minimize",), ("maximize", "minimize")])
@pytest.mark.parametrize(
    ("measure", "value", "hopeless"), [(UP, 0.9, False), (UP, 0.1, True), (DOWN, 0.9, True), (DOWN, 0.1, False)]
)
def test_a_trial_is_pruned_by_its_measure_and_no_objective(directions, measure, value, hopeless):
    study = study_of([[0.4, 0.5], [0.5, 0.6], [0.6, 0.7]], directions, measure)
    trial = study.ask()
    show(trial, measure, 10, value)
    assert is_hopeless(trial, MEDIAN, measure) is hopeless


def test_a_pruned_trial_is_no_longer_compared_with():
    study = study_of([[0.4], [0.5]])
    for _ in range(5):
        trial = study.ask()
        show(trial, UP, 10, 0.0)
        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    trial = study.ask()
    show(trial, UP, 10, 0.3)
    assert is_hopeless(trial, MEDIAN, UP)


def test_trials_without_a_value_do_no_harm():
    study = study_of([[0.4], [0.5], []])
    study.ask()
    study.tell(study.ask(), state=optuna.trial.TrialState.FAIL)
    trial = study.ask()
    assert not is_hopeless(trial, MEDIAN, UP)
    show(trial, UP, 10, 0.45)
    assert not is_hopeless(trial, MEDIAN, UP)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("PercentilePruner", {"percentile": 25.0, "n_startup_trials": 1}),
        ("SuccessiveHalvingPruner", {"min_resource": 10, "reduction_factor": 2}),
        ("HyperbandPruner", {"min_resource": 10, "max_resource": 30, "reduction_factor": 2}),
        ("ThresholdPruner", {"lower": 0.2}),
        ("WilcoxonPruner", {"p_threshold": 0.4}),
    ],
)
def test_this_pruner_ends_the_worst_of_many_and_keeps_the_best(name, args):
    pruner = methods.pruner(filled(Sweep, {"pruner": {"name": name, "args": args}}, where="a sweep"))
    study, fate = optuna.create_study(directions=["maximize", "minimize"]), {}
    for number in range(16):
        trial, level = study.ask(), (number * 7 % 16) / 16
        for step in (10, 20, 30):
            show(trial, UP, step, level + step / 1000)
            if step < 30 and is_hopeless(trial, pruner, UP):
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                fate[level] = step
                break
        else:
            study.tell(trial, [level, 0.0])
    assert fate
    assert max(fate) < 15 / 16


def test_what_a_pruner_notes_of_a_trial_is_kept_in_the_study():
    study = study_of([])
    trial = study.ask()
    show(trial, UP, 10, 0.5)
    is_hopeless(trial, optuna.pruners.SuccessiveHalvingPruner(min_resource=10, reduction_factor=2), UP)
    assert study.trials[0].user_attrs["pruner/health"] == {"completed_rung_0": 0.5}


def test_what_trials_showed_of_another_measure_is_not_compared_with():
    study = study_of([[0.4], [0.5], [0.6]], measure=UP)
    trial = study.ask()
    show(trial, UP, 10, 0.1)
    show(trial, DOWN, 10, 0.9)
    assert is_hopeless(trial, MEDIAN, UP)
    assert not is_hopeless(trial, MEDIAN, DOWN)
