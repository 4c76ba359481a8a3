"""Optuna's samplers and pruners by name: what is made, what is refused, and how seeds follow one another."""

import optuna
import pytest

from common.errors import BadInput
from common.schema import filled
from harness.sweep_settings import Sweep
from harness.sweeps import methods

SPACE = {
    "gram.weight": {"low": 0.1, "high": 10, "log": True},
    "gram.teacher": {"choices": ["snapshot", "ema"]},
    "gram.update_every": {"choices": [None, 20], "only_if": {"gram.teacher": "snapshot"}},
}
GRID = {"search_space": {"gram.weight": [0.1, 1.0], "gram.teacher": ["ema"], "gram.update_every": [None]}}


def sweep(**sections):
    return filled(Sweep, {"objectives": ["hours"], "space": SPACE, **sections}, where="a sweep")


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"]])
@pytest.mark.parametrize(
    "sampler",
    [
        {"name": "TPESampler", "args": {"multivariate": True, "group": True}},
        {"name": "RandomSampler"},
        {"name": "NSGAIISampler", "args": {"crossover": {"name": "UniformCrossover"}}},
        {"name": "NSGAIIISampler"},
        {"name": "GPSampler"},
        {"name": "QMCSampler", "args": {"scramble": True}},
        {"name": "GridSampler", "args": GRID},
        {"name": "PartialFixedSampler",
         "args": {"fixed_params": {"gram.teacher": "ema"}, "base_sampler": {"name": "TPESampler"}}},
    ],
    ids=lambda sampler: sampler["name"],
)  # fmt: skip
def test_this_sampler_proposes_trials(sampler, directions):
    assert len(methods.rehearse(sweep(sampler=sampler), directions)) >= 2


@pytest.mark.parametrize(
    ("sampler", "said"),
    [
        ({"name": "TPESmapler"}, "sweep.sampler: Optuna has no 'TPESmapler'; did you mean 'TPESampler'?"),
        ({"name": "BaseSampler"}, "sweep.sampler: Optuna has no 'BaseSampler'"),
        ({"name": "TPESampler", "args": {"sed": 1}}, "TPESampler takes no argument 'sed'; did you mean 'seed'?"),
        ({"name": "GridSampler"}, "GridSampler does not take these arguments (GridSampler.__init__() missing 1"),
        ({"name": "PartialFixedSampler", "args": {"fixed_params": {}, "base_sampler": {"name": "Tpe"}}},
         "sweep.sampler.args.base_sampler: Optuna has no 'Tpe'"),
    ],
)  # fmt: skip
def test_a_sampler_that_there_is_not_or_takes_other_arguments_is_refused_with_the_nearest(sampler, said):
    with pytest.raises(BadInput) as error:
        methods.sampler(sweep(sampler=sampler))
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("pruner", "said"),
    [
        ({"name": "MedianPrunner"}, "sweep.pruner: Optuna has no 'MedianPrunner'; did you mean 'MedianPruner'?"),
        ({"name": "MedianPruner", "args": {"n_startup": 1}}, "did you mean 'n_startup_trials'?"),
        ({"name": "PercentilePruner", "args": {"percentile": 200.0}}, "PercentilePruner does not take these arguments"),
    ],
)
def test_a_pruner_is_refused_in_the_same_way(pruner, said):
    with pytest.raises(BadInput) as error:
        methods.pruner(sweep(pruner=pruner))
    assert said in str(error.value)


def test_a_pruner_within_a_pruner_is_made():
    args = {"wrapped_pruner": {"name": "MedianPruner"}, "patience": 2}
    assert isinstance(
        methods.pruner(sweep(pruner={"name": "PatientPruner", "args": args})), optuna.pruners.PatientPruner
    )


@pytest.mark.parametrize(
    ("sampler", "directions", "why"),
    [
        ({"name": "CmaEsSampler"}, ["maximize", "minimize"], "multi-objective"),
        ({"name": "BruteForceSampler"}, ["maximize"], "step must be given"),
        ({"name": "GridSampler", "args": {"search_space": {"gram.weight": [1.0]}}}, ["maximize"], "not found in the"),
    ],
)
def test_a_sampler_that_cannot_serve_the_space_is_refused_before_a_trial(sampler, directions, why):
    with pytest.raises(BadInput, match=rf"cannot propose trials .*{why}.*want another"):
        methods.rehearse(sweep(sampler=sampler), directions)


def proposed(before, **sampler):
    study = optuna.create_study(
        sampler=methods.sampler(sweep(sampler={"name": "RandomSampler", **sampler}), before=before)
    )
    return study.ask().suggest_float("x", 0, 1)


def test_a_seed_gives_the_same_trial_in_the_same_place_and_another_in_another():
    assert proposed(3) == proposed(3) != proposed(4)
    assert proposed(3, args={"seed": 1}) == proposed(3, args={"seed": 1}) != proposed(3)


def test_no_seed_gives_other_trials_each_time():
    assert proposed(3, args={"seed": None}) != proposed(3, args={"seed": None})
