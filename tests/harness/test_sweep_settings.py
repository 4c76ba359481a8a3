"""Sections of a sweep laid over one another: by files' defaults, and by single words of the command line."""

import pytest
import yaml

from common.errors import BadInput
from harness.config import as_dict, load
from harness.layers import merged

SPACE = {
    "gram.weight": {"low": 0.1, "high": 10.0, "log": True},
    "gram.teacher": {"choices": ["snapshot", "ema"]},
    "gram.update_every": {"choices": [None, 2], "only_if": {"gram.teacher": "snapshot"}},
}
TPE = {"name": "TPESampler", "args": {"seed": 3, "multivariate": True}}
MEDIAN = {"name": "MedianPruner", "args": {"n_startup_trials": 5}, "by": "miou"}


@pytest.fixture
def swept(write_tiny):
    """The section `sweep` once words of a command line have changed it; of each parameter what is not by default."""

    def of(*words, space=SPACE, sampler=TPE, pruner=MEDIAN):
        sweep = as_dict(load(write_tiny(sweep={"space": space, "sampler": sampler, "pruner": pruner}), words).sweep)
        usual = {"low": None, "high": None, "step": None, "log": False, "choices": None, "only_if": {}}
        sweep["space"] = {
            key: {name: value for name, value in own.items() if value != usual[name]}
            for key, own in sweep["space"].items()
        }
        return sweep

    return of


@pytest.mark.parametrize(
    ("words", "changed"),
    [
        (["sweep.space.gram.weight.high=20"], {"gram.weight": {"low": 0.1, "high": 20.0, "log": True}}),
        (["sweep.space.gram.weight.low=1", "sweep.space.gram.weight.log=false"],
         {"gram.weight": {"low": 1.0, "high": 10.0}}),
        (["sweep.space.gram.weight={low:1,high:2}"], {"gram.weight": {"low": 1.0, "high": 2.0, "log": True}}),
        (["sweep.space.gram={weight:{high:20}}"], {"gram.weight": {"low": 0.1, "high": 20.0, "log": True}}),
        (["sweep.space.gram.weight.choices=[1.0,2.0]"], {"gram.weight": {"choices": [1.0, 2.0]}}),
        (["sweep.space.gram.update_every.low=1", "sweep.space.gram.update_every.high=3"],
         {"gram.update_every": {"low": 1.0, "high": 3.0, "only_if": {"gram.teacher": "snapshot"}}}),
        (["sweep.space.gram.update_every.only_if.gram.teacher=ema"],
         {"gram.update_every": {"choices": [None, 2], "only_if": {"gram.teacher": "ema"}}}),
        (["~sweep.space.gram.update_every.only_if"], {"gram.update_every": {"choices": [None, 2]}}),
        (["sweep.space.gram.resolution={choices:[1.0,2.0]}"], {"gram.resolution": {"choices": [1.0, 2.0]}}),
        (["+sweep.space.gram.resolution={choices:[1.0,2.0]}"], {"gram.resolution": {"choices": [1.0, 2.0]}}),
    ],
    ids=lambda one: one[0] if isinstance(one, list) else "",
)  # fmt: skip
def test_a_word_changes_one_parameter_of_the_space_or_a_part_of_it(swept, words, changed):
    assert swept(*words)["space"] == {**swept()["space"], **changed}


def test_a_parameter_is_removed_and_the_space_replaced_whole(swept):
    assert [*swept("~sweep.space.gram.weight")["space"]] == ["gram.teacher", "gram.update_every"]
    space = swept("sweep.space={gram.weight:{low:1,high:2}}")["space"]
    assert space == {"gram.weight": {"low": 1.0, "high": 2.0}}


def test_a_space_may_be_nested_as_arms_may(swept):
    nested = {"gram": {"weight": {"low": 1, "high": 2}, "teacher": {"choices": ["ema"]}}}
    assert swept(space=nested)["space"] == {
        "gram.weight": {"low": 1.0, "high": 2.0},
        "gram.teacher": {"choices": ["ema"]},
    }


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("sweep.space.gram.wieght.high=20", "the space has no parameter 'gram.wieght'; did you mean 'gram.weight'?"),
        ("sweep.space.gram.weight.hihg=20",
         "the space has no parameter 'gram.weight.hihg'; did you mean 'gram.weight'?"),
        ("sweep.space.koleo.weight.high=20",
         "the space has no parameter 'koleo.weight'; a new one is written whole, as sweep.space.koleo.weight="
         "{low: 1, high: 2} or {choices: [1, 2]}"),
        ("sweep.space.gram.weight=20",
         "want the values that it may take, as sweep.space.gram.weight={low: 1, high: 2} or {choices: [1, 2]}"),
        ("~sweep.space.gram.wieght", "nothing to remove there; did you mean 'gram.weight'?"),
    ],
)  # fmt: skip
def test_a_word_for_what_the_space_lacks_is_refused_with_what_there_is(swept, word, said):
    with pytest.raises(BadInput) as error:
        swept(word)
    assert str(error.value) == f"{word}: {said}"


def test_arguments_go_with_the_name_that_they_were_written_with(swept):
    random = {"name": "RandomSampler", "args": {}}
    assert swept("sweep.sampler.name=RandomSampler")["sampler"] == random
    assert swept("sweep.sampler=RandomSampler")["sampler"] == random
    assert swept("sweep.sampler={name:RandomSampler}")["sampler"] == random
    assert swept("sweep.pruner.name=NopPruner")["pruner"] == {"name": "NopPruner", "args": {}, "by": "miou"}
    for words in (["sweep.sampler.args.seed=4", "sweep.sampler.name=RandomSampler"], ["sweep.sampler.name=QMCSampler"]):
        assert swept(*words)["sampler"]["args"] == ({"seed": 4} if len(words) == 2 else {})


def test_arguments_stay_where_the_name_stays(swept):
    assert swept("sweep.sampler.name=TPESampler")["sampler"] == TPE
    assert swept("sweep.sampler.args.seed=4")["sampler"] == {**TPE, "args": {"seed": 4, "multivariate": True}}
    assert swept("sweep.sampler.name=TPESampler", sampler={"args": {"seed": 3}})["sampler"]["args"] == {"seed": 3}


def test_arguments_of_a_class_within_go_with_its_name_too(swept):
    inner = {"name": "PartialFixedSampler", "args": {"fixed_params": {}, "base_sampler": TPE}}
    found = swept("sweep.sampler.args.base_sampler.name=RandomSampler", sampler=inner)["sampler"]["args"]
    assert found["base_sampler"] == {"name": "RandomSampler"}


def test_a_file_over_its_defaults_changes_them_as_a_word_does(tmp_path, tiny_text):
    (tmp_path / "below.yaml").write_text(tiny_text(tmp_path, sweep={"space": SPACE, "sampler": TPE}))
    own = {"space": {"gram.weight": {"choices": [1.0]}}, "sampler": {"name": "RandomSampler"}}
    path = tmp_path / "above.yaml"
    path.write_text(yaml.safe_dump({"defaults": ["below", "_self_"], "sweep": own}))
    sweep = load(path).sweep
    assert (sweep.space["gram.weight"].choices, sweep.space["gram.weight"].low) == ([1.0], None)
    assert (sweep.sampler.name, sweep.sampler.args) == ("RandomSampler", {})
    assert [*sweep.space] == [*SPACE]


def test_a_model_keeps_its_arguments_under_another_name():
    """They say how large it is, whichever of the family it is."""
    model = {"model": {"name": "a", "args": {"depth": 2}}}
    assert merged(model, {"model": {"name": "b"}}) == {"model": {"name": "b", "args": {"depth": 2}}}
