"""The presets of the recipe: which settings they choose, that ours is what there is without one, and that all train."""

import pytest
import torch
import yaml

from harness import recipe_page
from harness.config import as_dict, load, science
from harness.settings import Experiment
from tests.harness.test_settings import KNOBS

DISAGREEMENTS = {  # recipe §15, and the switches of §5, §8: what the paper says, what the code does
    "teacher.momentum": (0.999, 0.994),
    "gram.form": ("frobenius", "mean"),
    "ibot.head.hidden": (8192, 4096),
    "koleo.crops": ("first", "both"),
    "koleo.group": (16, 16),
    "crops.blur_global_1": (1.0, 0.0),
    "crops.blur_global_2": (0.1, 0.9),
    "crops.blur_local": (0.5, 0.5),
    "crops.flip": (0.0, 0.0),
    "data.homogeneous_share": (0.1, 0.0),
    "data.components": ("source", "source"),
    "model.rope_precision": ("float32", "bfloat16"),
    "model.untie_local_cls_norm": (True, True),
    "optimizer.decay_tokens": (False, True),
}


@pytest.fixture
def chosen(tmp_path):
    """An experiment of a preset alone."""

    def of(name: str | None, text: str = "") -> Experiment:
        path = tmp_path / "some.yaml"
        path.write_text(("" if name is None else f"defaults: [recipe: {name}, _self_]\n") + text)
        return load(path)

    return of


def test_the_presets_are_the_two_columns_of_the_recipes_table():
    found = recipe_page.presets()
    assert {key: (found["paper"][key], found["code"][key]) for key in found["paper"]} == DISAGREEMENTS


def test_every_preset_gives_every_row_and_each_is_a_setting_that_changes_results():
    rows = [key for row in recipe_page.ROWS for key in row.keys]
    assert len(rows) == len(set(rows))
    for name, values in recipe_page.presets().items():
        assert values.keys() == set(rows), name
    assert set(rows) <= KNOBS.keys()


def test_ours_is_what_an_experiment_has_without_a_preset(chosen):
    assert as_dict(chosen("ours")) == as_dict(chosen(None))


def test_paper_and_code_are_other_runs_than_ours_and_than_each_other(chosen):
    found = [science(chosen(name, "gram: {weight: 1.0e-5}\n"), data_fingerprint="x") for name in recipe_page.PRESETS]
    assert len({repr(one) for one in found}) == 3


def test_a_preset_is_chosen_on_the_command_line_beside_whatever_the_file_lists(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("defaults: [recipe: ours, _self_]\n")
    assert load(path, ["recipe=paper"]).teacher.momentum == 0.999
    path.write_text("teacher: {momentum: 0.9}\n")
    assert load(path, ["+recipe=code"]).teacher.momentum == 0.994


@pytest.mark.parametrize("name", recipe_page.PRESETS)
def test_every_preset_trains(name, tmp_path, tiny_text, take_steps):
    sizes = yaml.safe_load(tiny_text(tmp_path))
    own = {**sizes, "defaults": [{"recipe": name}, "_self_"], "gram": {"weight": 1e-4, "start_step": 1}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(own))
    settings = load(tmp_path / "tiny.yaml")
    assert settings.koleo.crops == ("first" if name == "paper" else "both")
    state, rows = take_steps(settings, 3)
    assert all(torch.tensor([*row.values()]).isfinite().all() for row in rows)
    assert rows[2]["gram"] > 0
    assert (state.student.local_cls_norm is None) == (name == "ours")


def test_the_page_shows_every_row_with_its_three_values_side_by_side():
    rows = [line for line in recipe_page.page().splitlines() if line.startswith("| EMA of the teacher")]
    assert "| `teacher.momentum` | `0.999` | `0.994` | `0.994` |" in rows[0]
    assert all(row.source and row.why and row.topic for row in recipe_page.ROWS)


def test_every_topic_of_the_recipes_table_stands_in_one_of_the_two_tables():
    """Recipe §15, by a word of each topic."""
    topics = ("EMA", "Gram loss", "iBOT head", "KoLeo", "blur", "length of high", "linear probe", "gradients")
    topics += ("ImageNet quick start", "homogeneous batches", "Gram teacher from a step", "RoPE", "weight decay of")
    rows = [line for line in recipe_page.page().splitlines() if line.startswith("| ")]
    heads = [row.split(" | ")[0] for row in rows]
    for topic in topics:
        assert any(topic in head for head in heads), topic
    assert len({row.count(" | ") for row in rows}) == 2
