"""What a space holds in vain: refused where a parameter is of no use at all, told where some of its values are."""

import pytest

from common.errors import BadInput
from harness.config import load
from harness.sweep import prepared
from harness.sweep_settings import Parameter, needed

ON = {"gram.weight": {"choices": [2.0]}}  # the trunk ends at step 2, trials at step 6


@pytest.fixture
def refusal(write_sweep, tmp_path):
    """What a space is refused by, a line each; nothing is written meanwhile."""

    def of(space, **sections):
        with pytest.raises(BadInput) as error:
            prepared(load(write_sweep(sections, space=space)))
        assert not (tmp_path / "runs").exists()
        return str(error.value).splitlines()

    return of


@pytest.fixture
def notes(write_sweep):
    def of(space, **sections):
        _, _, found = prepared(load(write_sweep(sections, space=space)))
        return found

    return of


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({**ON, "gram.start_step": {"low": 10, "high": 12}},
         "gram.start_step: 10, 11, 12 are of no use: gram.start_step=10: want below steps=6, where the run ends"),
        ({**ON, "gram.update_every": {"choices": [4, 8]}},
         "gram.update_every: 4, 8 are of no use: gram.update_every=4: the first renewal would be at step 6, but it "
         "ends at 6; want less, or null"),
        ({"gram.weight": {"choices": [0.0]}},
         "gram.weight: trials are the same without it; want other values, or leave it out"),
        ({"gram.resolution": {"choices": [1.0, 2.0]}},
         "gram.resolution: 1.0, 2.0 are of no use: gram.resolution=1.0: gram.weight is 0 beside it; want it above 0"),
        ({"schedule.end_step": {"low": 5, "high": 6}},
         "schedule.end_step: 5, 6 are of no use: schedule.end_step=5: nothing has an end; want optimizer.lr_end or "
         "another, or null"),
        ({**ON, "model.args.depth": {"choices": [2, 3]}},
         "model.args.depth: 3 is of no use: model.args differs from that of the trunk: arms fork with its weights; "
         "set it for all"),
        ({**ON, "ibot.head.hidden": {"low": 32, "high": 64, "step": 32}},
         "ibot.head.hidden: 32, 64 are of no use: ibot.head differs from that of the trunk: arms fork with its "
         "weights; set it for all"),
    ],
    ids=lambda one: [*one][-1] if isinstance(one, dict) else "",
)  # fmt: skip
def test_a_parameter_whose_every_value_is_of_no_use_is_refused_by_name(refusal, space, said):
    assert refusal(space) == [f"sweep.space.{said}"]


def test_a_parameter_whose_conditions_exclude_one_another_is_refused(refusal):
    space = {
        **ON,
        "gram.teacher": {"choices": ["snapshot", "ema"]},
        "gram.update_every": {"choices": [None, 2], "only_if": {"gram.teacher": "snapshot"}},
        "gram.resolution": {"choices": [1.0, 2.0], "only_if": {"gram.update_every": 2, "gram.teacher": "ema"}},
    }
    said = "it never counts: only_if asks for gram.teacher twice, for unlike choices"
    assert refusal(space) == [f"sweep.space.gram.resolution: {said}"]


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({**ON, "gram.start_step": {"choices": [2, 4, 6]}},
         "gram.start_step: 6 is of no use: gram.start_step=6: want below steps=6, where the run ends"),
        ({**ON, "gram.start_step": {"low": 2, "high": 20}},  # 3 lies between the values that are looked at
         "gram.start_step: 6, 9, 13 and 2 more are of no use: gram.start_step=6: want below steps=6, where the run "
         "ends"),
        ({**ON, "gram.update_every": {"choices": [None, 2, 4]}},
         "gram.update_every: 4 is of no use: gram.update_every=4: the first renewal would be at step 6, but it ends "
         "at 6; want less, or null"),
        ({"steps": {"choices": [4, 6, 8]}, **ON, "gram.start_step": {"choices": [6]}},
         "steps: 4, 6 are of no use: gram.start_step=6: want below steps=4, where the run ends"),
        ({**ON, "gram.resolution": {"choices": [1.1, 2.0]}},
         "gram.resolution: 1.1 is of no use: gram.resolution=1.1, crops of 35.2 pixels with patches of 8: want a "
         "multiple; try 1"),
    ],
)  # fmt: skip
def test_values_that_are_of_no_use_beside_others_that_are_become_a_note(notes, space, said):
    assert notes(space) == [f"note: sweep.space.{said}"]


@pytest.mark.parametrize(
    "space",
    [
        {"model.drop_path": {"choices": [0.0, 0.1]}},  # an arm may change it, and so may a trial
        {"koleo.weight": {"choices": [0.0]}},  # the experiment has another
        {"gram.weight": {"choices": [0.0, 2.0]}, "gram.resolution": {"low": 1.0, "high": 2.0, "step": 0.25}},
        {"gram.weight": {"choices": [0.0, 2.0]},
         "gram.update_every": {"choices": [2, 3], "only_if": {"gram.weight": 2.0}}},
    ],
    ids=lambda space: "-".join(space),
)  # fmt: skip
def test_what_matters_in_one_trial_at_least_has_no_note(notes, space):
    assert notes(space) == []


def test_the_model_may_be_searched_where_no_trunk_has_one(notes):
    assert notes({"model.args.depth": {"choices": [2, 3]}}, trunk={"steps": 0}, gram={}) == []


def test_a_trial_whose_crops_patches_do_not_divide_is_refused_before_it_is_trained(write_sweep):
    _, trials, _ = prepared(load(write_sweep()))
    with pytest.raises(BadInput, match=r"gram\.resolution=1\.1"):
        trials.jobs_of({"trial": {"gram.weight": 2.0, "gram.resolution": 1.1}})


def test_another_seed_changes_nothing_of_what_a_space_holds(write_sweep):
    space = {**ON, "gram.resolution": {"choices": [1.1, 2.0]}}
    notes = [prepared(load(write_sweep({"seeds": seeds}, space=space)))[2] for seeds in ([4, 5], [0])]
    assert notes[0] == notes[1] != []


def test_a_parameter_needs_what_its_conditions_need_in_turn():
    space = {
        "a": Parameter(choices=[1, 2, 3]),
        "b": Parameter(choices=[True, 1], only_if={"a": [1, 2]}),
        "c": Parameter(choices=[0], only_if={"b": 1, "a": [2, 3]}),
    }
    assert needed(space, "a") == {}
    assert needed(space, "c") == {"a": [2], "b": [1]}
