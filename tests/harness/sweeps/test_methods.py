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
        ({"name": "nsgaii"}, "sweep.sampler: Optuna has no 'nsgaii'; did you mean 'NSGAIISampler'?"),
        ({"name": "BaseSampler"}, "sweep.sampler: Optuna has no 'BaseSampler'"),
        ({"name": "TPESampler", "args": {"sed": 1}}, "TPESampler takes no argument 'sed'; did you mean 'seed'?"),
        ({"name": "tpe"}, "sweep.sampler: Optuna has no 'tpe'; did you mean 'TPESampler'?"),
        ({"name": "BoTorchSampler"}, "sweep.sampler: Optuna has no 'BoTorchSampler'; want one of BruteForceSampler, "),
        ({"name": "GridSampler"}, "sweep.sampler: GridSampler needs search_space: want sweep.sampler.args.search_sp"),
        ({"name": "TPESampler", "args": {"seed": "abc"}},
         "sweep.sampler.args.seed='abc': want a whole number, at least 0, or null for other trials each time"),
        ({"name": "TPESampler", "args": {"seed": -1}}, "sweep.sampler.args.seed=-1: want a whole number, at least 0"),
        ({"name": "TPESampler", "args": {"seed": True}}, "sweep.sampler.args.seed=true: want a whole number"),
        ({"name": "TPESampler", "args": {"n_startup_trials": "x"}},
         "sweep.sampler.args.n_startup_trials='x': want a whole number"),
        ({"name": "TPESampler", "args": {"gamma": 3}},
         "sweep.sampler.args.gamma=3: want null, since a file holds no function"),
        ({"name": "NSGAIISampler", "args": {"crossover": "UniformCrossover"}},
         "sweep.sampler.args.crossover='UniformCrossover': want a class of Optuna's, as {name: …, args: {…}}"),
        ({"name": "NSGAIISampler", "args": {"crossover": {"name": "uniform"}}},
         "sweep.sampler.args.crossover: Optuna has no 'uniform'; did you mean 'UniformCrossover'?"),
        ({"name": "NSGAIISampler", "args": {"crossover": {"name": "UniformCrossover", "args": 3}}},
         "sweep.sampler.args.crossover={'name': 'UniformCrossover', 'args': 3}: want a class of Optuna's, as {name"),
        ({"name": "NSGAIISampler", "args": {"crossover": {"name": ["a"]}}},
         "sweep.sampler.args.crossover={'name': ['a']}: want a class of Optuna's"),
        ({"name": "NSGAIISampler", "args": {"population_size": 1}},
         "sweep.sampler: got NSGAIISampler(population_size=1): `population_size` must be greater than or equal to 2; "
         "want other arguments"),
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
        ({"name": "median"}, "did you mean 'MedianPruner'?"),
        ({"name": "PercentilePruner"}, "sweep.pruner: PercentilePruner needs percentile: want sweep.pruner.args.perc"),
        ({"name": "PercentilePruner", "args": {"percentile": "a"}},
         "sweep.pruner.args.percentile='a': want a number"),
        ({"name": "PercentilePruner", "args": {"percentile": 200.0}},
         "sweep.pruner: got PercentilePruner(percentile=200.0): Percentile must be between 0 and 100 inclusive"),
        ({"name": "ThresholdPruner"}, "sweep.pruner: got ThresholdPruner(): Either lower or upper must be specified;"),
        ({"name": "PatientPruner", "args": {"patience": 2}}, "PatientPruner needs wrapped_pruner"),
    ],
)  # fmt: skip
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
        ({"name": "CmaEsSampler"}, ["maximize"], "draws all but ranges at random, and has 1 here: want 2 without onl"),
        ({"name": "BruteForceSampler"}, ["maximize"], "tries every value: want a step, or choices, in place of each"),
        ({"name": "GridSampler", "args": {"search_space": {"gram.weight": [1.0]}}}, ["maximize"],
         "has no values of some parameters: want each of sweep.space in search_space"),
    ],
)  # fmt: skip
def test_a_sampler_that_cannot_serve_the_space_is_refused_before_a_trial(sampler, directions, why):
    with pytest.raises(
        BadInput, match=rf"^sweep\.sampler: {sampler['name']} {why}.*, or another sampler, such as TPESam"
    ):
        methods.rehearse(sweep(sampler=sampler), directions)


RANGES = {"gram.weight": {"low": 0.1, "high": 10, "log": True}, "optimizer.lr": {"low": 1e-4, "high": 1e-2}}


def test_cma_es_takes_ranges_and_one_objective_alone():
    asked = sweep(sampler={"name": "CmaEsSampler"}, space=RANGES)
    assert len(methods.rehearse(asked, ["maximize"])) == methods.REHEARSED
    with pytest.raises(BadInput, match=r"CmaEsSampler takes one objective: want one alone, or another sampler"):
        methods.rehearse(asked, ["maximize", "minimize"])


def test_a_package_that_a_sampler_needs_is_named(monkeypatch):
    monkeypatch.setattr("optuna.samplers._cmaes.cmaes", optuna._imports._LazyImport("no_such_package"))
    with pytest.raises(
        BadInput, match=r"CmaEsSampler needs the package no_such_package: want it installed, or another sampler"
    ):
        methods.rehearse(sweep(sampler={"name": "CmaEsSampler"}, space=RANGES), ["maximize"])


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
