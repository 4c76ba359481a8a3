"""The search space: what is drawn, when a parameter counts, and what cannot be meant."""

import optuna
import pytest

from common.errors import BadInput
from common.schema import filled
from harness.sweep_settings import Sweep
from harness.sweeps.space import drawn, overrides, refuse_unfit

SPACE = {
    "gram.weight": {"low": 0.1, "high": 10, "log": True},
    "gram.start_step": {"low": 40, "high": 120, "step": 40},
    "gram.teacher": {"choices": ["snapshot", "ema"]},
    "gram.update_every": {"choices": [None, 20], "only_if": {"gram.teacher": "snapshot"}},
    "data.homogeneous_share": {"low": 0, "high": 1},
}


def sweep(space):
    return filled(Sweep, {"objectives": ["hours"], "space": space}, where="a sweep")


def trials(space, count=40):
    found, settings = [], sweep(space)

    def objective(trial):
        found.append(drawn(trial, settings))
        return 0.0

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=count)
    return found


@pytest.fixture(autouse=True)
def quiet():
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)


def test_every_trial_lies_within_the_ranges_and_choices():
    found = trials(SPACE)
    assert all(0.1 <= one["gram.weight"] <= 10 for one in found)
    assert {one["gram.start_step"] for one in found} == {40, 80, 120}
    assert {one["gram.teacher"] for one in found} == {"snapshot", "ema"}


def test_a_log_range_is_drawn_evenly_by_decades():
    found = [one["gram.weight"] for one in trials(SPACE, 200)]
    assert 60 < sum(weight < 1 for weight in found) < 140


def test_a_parameter_counts_only_where_its_condition_holds():
    found = trials(SPACE)
    assert all(("gram.update_every" in one) == (one["gram.teacher"] == "snapshot") for one in found)


def test_a_condition_on_a_condition_holds_only_where_both_do():
    space = SPACE | {"gram.resolution": {"choices": [1.0, 2.0], "only_if": {"gram.update_every": [20]}}}
    assert all(("gram.resolution" in one) == (one.get("gram.update_every") == 20) for one in trials(space))


def test_whole_ends_of_a_setting_that_takes_fractions_are_no_whole_numbers():
    assert any(one["data.homogeneous_share"] not in (0, 1) for one in trials(SPACE))


def test_a_setting_that_takes_whole_numbers_gets_them():
    assert all(isinstance(one["gram.start_step"], int) for one in trials(SPACE))


def test_numbers_are_settled_to_six_digits():
    assert overrides({"a": 0.30000000000000004, "b": 1.23456789, "c": 3, "d": None, "e": True}) == {
        "a": 0.3, "b": 1.23457, "c": 3, "d": None, "e": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "parameter", "said"),
    [
        ("gram.wieght", {"low": 1, "high": 2}, "no such setting; did you mean gram.weight?"),
        ("gram.lr", {"low": 1, "high": 2}, "no such setting; did you mean optimizer.lr?"),
        ("gramweight", {"low": 1, "high": 2}, "no such setting; docs/settings.md lists them"),
        ("gram", {"low": 1, "high": 2}, "a section: want a setting of it, as gram.weight"),
        ("gram.weight", {"low": -1, "high": 2}, "got -1: want a number, at least 0"),
        ("gram.start_step", {"low": 0.5, "high": 2}, "got 0.5: want a whole number, at least 0"),
        ("gram.start_step", {"low": 0, "high": 3, "step": 1.5}, "step=1.5: want a whole number"),
        ("gram.teacher", {"low": 1, "high": 2}, "want choices, not a range"),
        ("gram.teacher", {"choices": ["snapshot", "emma"]}, "got 'emma': want one of snapshot, ema, checkpoint"),
        ("runtime.threads", {"choices": [1, 2]}, "belongs to the whole experiment"),
        ("seeds", {"choices": [1, 2]}, "belongs to the whole experiment"),
    ],
)
def test_what_is_no_setting_or_none_that_it_can_have_is_refused_by_name(key, parameter, said):
    with pytest.raises(BadInput) as error:
        refuse_unfit(sweep({key: parameter}))
    assert str(error.value).startswith(f"sweep.space.{key}: {said}")


def test_an_empty_space_is_refused():
    with pytest.raises(BadInput, match=r"^sweep\.space is empty: want at least one setting"):
        refuse_unfit(sweep({}))


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"gram.weight": {"low": 2, "high": 1}}, "space.gram.weight.low=2.0: want below high=1.0"),
        ({"gram.weight": {"low": 0, "high": 1, "log": True}}, "space.gram.weight.low=0.0: want above 0 for log: true"),
        ({"gram.weight": {"low": 1}}, "space.gram.weight.low=1.0, high=null: want both, or choices"),
        ({"gram.weight": {}}, "want both, or choices"),
        ({"gram.weight": {"low": 0, "high": 1, "step": 0.3}}, "step=0.3: want one that leads from low=0.0 to high=1.0"),
        ({"gram.weight": {"low": 1, "high": 2, "choices": [1]}}, "want either these or low and high, not both"),
        ({"gram.weight": {"choices": []}}, "want one or more different values"),
        ({"gram.weight": {"choices": [], "low": 1}}, "want either these or low and high, not both"),
        (
            {"gram.weight": {"low": 1, "high": 2, "only_if": {"gram.weight": 1}}},
            "only_if: gram.weight has a range: want a parameter with choices",
        ),
        (
            {"gram.weight": {"choices": [1.0], "only_if": {"gram.weight": 1.0}}},
            "only_if leads in a circle: gram.weight → gram.weight: want one that ends",
        ),
        ({"gram.weight": {"choices": [1.0, 1.0]}}, "want one or more different values"),
        (
            {
                "gram.weight": {"low": 1, "high": 2, "only_if": {"gram.taecher": 1}},
                "gram.teacher": {"choices": ["ema"]},
            },
            "space.gram.weight.only_if: no parameter 'gram.taecher'; did you mean 'gram.teacher'?",
        ),
        (
            {
                "gram.weight": {"low": 1, "high": 2},
                "gram.resolution": {"choices": [1.0], "only_if": {"gram.weight": 1}},
            },
            "only_if: gram.weight has a range: want a parameter with choices",
        ),
        (
            {"gram.teacher": {"choices": ["ema"]}, "gram.weight": {"choices": [1.0], "only_if": {"gram.teacher": "x"}}},
            "only_if: gram.teacher='x' is none of its choices ['ema']",
        ),
        (
            {
                "gram.weight": {"choices": [1.0], "only_if": {"gram.resolution": 1.0}},
                "gram.resolution": {"choices": [1.0], "only_if": {"gram.weight": 1.0}},
            },
            "space: only_if leads in a circle: gram.",
        ),
    ],
)
def test_ranges_and_conditions_that_cannot_be_meant_are_refused(space, said):
    with pytest.raises(BadInput) as error:
        sweep(space)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
