"""Files laid over one another by their `defaults`: in which order, under which section, and what is refused."""

from pathlib import Path

import pytest

from common.errors import BadInput
from harness.layers import composed, entries, merged


@pytest.fixture
def lay(tmp_path):
    """Writes files, the first of which is composed."""

    def of(files: dict[str, str], choices=None, added=None):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return composed(tmp_path / next(iter(files)), choices or {}, added=added or {})

    return of


def test_the_order_of_the_defaults_is_the_order_of_the_layers(lay):
    other = {"other.yaml": "a: 2\nb: 2\n"}
    assert lay({"x.yaml": "defaults: [other, _self_]\na: 1\n", **other}) == {"a": 1, "b": 2}
    assert lay({"x.yaml": "defaults: [_self_, other]\na: 1\n", **other}) == {"a": 2, "b": 2}
    assert lay({"x.yaml": "defaults: [other]\na: 1\n", **other}) == {"a": 1, "b": 2}


def test_a_group_is_a_section_unless_its_file_says_otherwise(lay):
    files = {"recipe/one.yaml": "k: 1\n", "recipe/all.yaml": "# @package _global_\nk: 2\n"}
    assert lay({"x.yaml": "defaults: [recipe: one]\n", **files}) == {"recipe": {"k": 1}}
    assert lay({"x.yaml": "defaults: [recipe: all]\n", **files}) == {"k": 2}
    assert lay({"x.yaml": "defaults: [recipe: one]\n", **files}, choices={"recipe": "all"}) == {"k": 2}
    assert lay({"x.yaml": "defaults: [recipe: one]\nm: 3\n", **files}, choices={"recipe": None}) == {"m": 3}
    assert lay({"x.yaml": "k: 1\n", **files}, added={"recipe": "all"}) == {"k": 2}


def test_a_section_is_chosen_by_comments_at_the_top_alone(lay):
    files = {"x.yaml": "defaults: [recipe: one]\n", "recipe/one.yaml": "k: |\n  # @package foo\n"}
    assert lay(files) == {"recipe": {"k": "# @package foo\n"}}
    files["recipe/one.yaml"] = "\ufeff# first\n\n# @package _global_\nk: 1\n"
    assert lay(files) == {"k": 1}


def test_a_layer_may_have_defaults_of_its_own(lay):
    files = {"x.yaml": "defaults: [recipe: one]\n", "recipe/one.yaml": "defaults: [two]\na: 1\n"}
    assert lay({**files, "recipe/two.yaml": "a: 2\nb: 2\n"}) == {"recipe": {"a": 1, "b": 2}}


def test_a_layer_may_name_files_of_another_group_which_may_be_chosen_too(lay):
    files = {"x.yaml": "defaults: [scale: small]\n", "model/a.yaml": "k: 1\n", "model/b.yaml": "k: 2\n"}
    files["scale/small.yaml"] = "# @package _global_\ndefaults: [/model: a, _self_]\nmodel: {m: 3}\n"
    assert lay(files) == {"model": {"k": 1, "m": 3}}
    assert lay(files, choices={"model": "b"}) == {"model": {"k": 2, "m": 3}}
    files["x.yaml"] = "defaults: [model: a, scale: small]\n"
    with pytest.raises(BadInput, match="model stands in several files"):
        lay(files)


SHIPPED = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "experiments").glob("*.yaml"))


def test_mappings_are_merged_and_all_else_is_replaced():
    assert merged({"a": {"b": 1, "c": 2}, "d": [1]}, {"a": {"c": 3}, "d": [2]}) == {"a": {"b": 1, "c": 3}, "d": [2]}
    assert merged({"a": {"b": 1}}, {"a": None}) == {"a": None}


def test_the_file_itself_is_the_last_where_it_is_not_named(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("defaults: [model: nano, other.yaml]\n")
    assert [entry.words for entry in entries(path)] == ["model/nano.yaml", "other.yaml", "_self_.yaml"]


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ("5", "defaults=5: want a list; want `- _self_`"),
        ("model", "defaults='model': want a list"),
        ("{model: nano}", "want a list"),
        ("null", "defaults=null: want a list"),
        ("[5]", "defaults: got 5: want `- _self_`, `- NAME` or `- GROUP: NAME`"),
        ("[null]", "defaults: got null"),
        ("[[model]]", "defaults: got ['model']"),
        ("[model: null]", "defaults: got {'model': null}: want"),
        ("[model: 5]", "defaults: got {'model': 5}"),
        ("[{model: nano, data: scenes}]", "want `- _self_`, `- NAME` or `- GROUP: NAME`"),
        ("[x]", "defaults lead in a circle: x.yaml → x.yaml"),
        ("[y]", "defaults lead in a circle: x.yaml → y.yaml → x.yaml"),
        ("[model: nano, model: vits]", "defaults: model stands there twice"),
        ("[_self_, _self_]", "defaults: _self_ stands there twice"),
        ("[z, w]", "defaults: model stands in several files"),
        ("[modle: nano]", "defaults: no folder modle; did you mean 'model'?"),
        ("[model: nanoo]", "defaults: no model/nanoo.yaml; known: nano, vit7b, vitb, vitl, vits; did you mean 'nano'?"),
        (
            "[nothing]",
            f"defaults: no nothing.yaml; known: {', '.join(SHIPPED)}, w, x, y, z",
        ),
        ("[model: ../x]", "defaults: got {'model': '../x'}: want"),
        ("[model: /etc/x]", "defaults: got {'model': '/etc/x'}"),
        ("[optional model: nano]", "defaults: got {'optional model': 'nano'}"),
        ("[model: '${oc.env:HOME}']", "defaults: got {'model': '${oc.env:HOME}'}"),
        ('["x\\ny"]', r"defaults: got 'x\ny'"),
    ],
)
def test_defaults_that_cannot_be_meant_are_refused_in_one_line(lay, defaults, said):
    others = {"y.yaml": "defaults: [x]\n", "z.yaml": "defaults: [model: nano]\n", "w.yaml": "defaults: [model: vits]\n"}
    with pytest.raises(BadInput) as error:
        lay({"x.yaml": f"defaults: {defaults}\n", **others})
    assert said in str(error.value)
    assert "x.yaml: " in str(error.value) or "y.yaml: " in str(error.value) or "w.yaml: " in str(error.value)
    assert "\n" not in str(error.value)
