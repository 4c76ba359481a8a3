"""The published values that ship, and what a file of them may not say."""

from __future__ import annotations

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
import yaml

from common.command import parsed
from common.errors import BadInput
from evals import arguments, references, reproduced, request
from evals.references import PUBLISHED, References
from evals.results.metrics import metric_of
from evals.tasks.methods import method_of, protocol_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "references.md"
SHIPPED = references.read(PUBLISHED)
COMPARABLE = {name: table for name, table in SHIPPED.tables.items() if table.ours}


def test_every_model_has_a_published_value_and_most_have_one_that_compares():
    assert all(SHIPPED.tables_of(name) for name in SHIPPED.models)
    compared = {model for table in COMPARABLE.values() for model in table.values}
    assert {name for name in SHIPPED.models if name not in compared} == {
        f"dinov3_convnext_{size}" for size in ("tiny", "small", "base", "large")
    }


@pytest.mark.parametrize("name", COMPARABLE)
def test_what_compares_is_a_protocol_that_ships_with_the_hash_that_is_noted(name: str):
    table, ours = COMPARABLE[name], COMPARABLE[name].ours
    assert ours
    shipped = protocol_of(ours.protocol.rpartition("-v")[0])
    used = replace(shipped, size=ours.size, precision=ours.precision)
    assert (used.id, used.task, used.hash()) == (ours.protocol, table.task, ours.hash)
    assert table.metric in method_of(used).file.metrics(used)


@pytest.mark.parametrize("name", SHIPPED.models)
def test_what_is_said_of_a_model_is_true_of_its_network_in_timm(name: str):
    """On the meta device: shapes alone."""
    model = SHIPPED.models[name]
    for weights in (w.removeprefix("timm:") for w in model.weights if w.startswith("timm:")):
        with torch.device("meta"):
            network = timm.create_model(weights, num_classes=0)
        side = network.feature_info[-1]["reduction"]
        assert side == model.patch
        millions = sum(parameter.numel() for parameter in network.parameters()) / 1e6
        assert abs(millions - model.millions) <= reproduced.ALIKE * model.millions


def commands() -> list[str]:
    listed = reproduced.listing(SHIPPED, place=PUBLISHED).splitlines()
    return [line.removeprefix("    gramlab eval ") for line in listed if line.startswith("    gramlab eval ")]


def test_every_comparable_value_is_listed_with_a_command_that_evaluates_as_was_published():
    asked = set()
    for command in commands():
        args = parsed(arguments.evaluate, "eval", shlex.split(command))
        assert args.check == ""
        given = request.pairs(args.data, "--data", "")
        for wanted in (request.parse(word, given) for word in args.tasks):
            used = request.choose_protocol(wanted, args.protocol)
            changes = {"size": int(args.sizes) if args.sizes else None, "precision": args.precision}
            used = replace(used, **{key: value for key, value in changes.items() if value})
            asked.add((SHIPPED.named_by(args.spec), used.hash(), wanted.data))
    assert asked == {
        (model, table.ours.hash, table.ours.dataset)
        for table in COMPARABLE.values()
        for model in table.values
        if table.ours
    }


def test_the_page_tells_every_value_that_ships():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    for name in SHIPPED.models:
        (row,) = (line for line in rows if line.startswith(f"| `{name}` |"))
        told = re.findall(r"\d+\.\d+", row)
        assert sorted(told) == sorted(f"{t.values[name]:.{t.decimals}f}" for t in SHIPPED.tables_of(name))
    for name, table in SHIPPED.tables.items():
        assert f"`{name}`" in PAGE.read_text(encoding="utf-8")
        assert metric_of(table.metric)


def mended(changes: dict[str, object]) -> dict[str, object]:
    """A small sound file with changes by dotted keys; a value of None takes the key out."""
    plain = yaml.safe_load(
        """
        models: {tiny: {title: Tiny, weights: ["hf:a/tiny"], patch: 16, millions: 1}}
        tables:
          made: {source: here, task: knn, metric: top1, how: somehow, decimals: 1, values: {tiny: 50.0}, ours: null}
        """
    )
    for key, value in changes.items():
        *above, last = key.split(".")
        place = plain
        for part in above:
            place = place[part]
        place[last] = value
        if value is None and last != "ours":
            del place[last]
    return plain


def test_the_small_file_is_sound(tmp_path: Path):
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(mended({})))
    assert isinstance(references.read(tmp_path / "r.yaml"), References)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models.tiny.patch": 0}, "models.tiny.patch=0: want a whole number"),
        ({"models.tiny.weights": ["tiny.pth"]}, "want timm:ARCHITECTURE.TAG, hf:OWNER/NAME or sha256:"),
        ({"models.other": {"title": "O", "weights": ["hf:a/tiny"], "patch": 8, "millions": 1}}, "of two models"),
        ({"tables.made.values": {"tinny": 50.0}}, "did you mean 'tiny'?"),
        ({"tables.made.values": {"tiny": 150.0}}, "tables.made.values.tiny=150.0: want per cent, at most 100"),
        ({"tables.made.values": {"tiny": "50.0"}}, "leave the quotes out"),
        ({"tables.made.metric": "top"}, "tables.made.metric=top: want one of top1"),
        ({"tables.made.source": None}, "tables.made.source is missing: want text (document and table)"),
        ({"tables.made.task": "health"}, "tables.made.task='health': want one of knn, linear"),
        ({"tables.made.sauce": "here"}, "unknown setting 'tables.made.sauce'; did you mean tables.made.source?"),
        ({"tables.made.ours": {}}, "tables.made.ours.protocol is missing"),
        ({"models": None}, "models is missing"),
    ],
)
def test_a_file_that_cannot_be_meant_names_itself_and_the_place(changes: dict, said: str, tmp_path: Path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(mended(changes)))
    with pytest.raises(BadInput) as caught:
        references.read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
