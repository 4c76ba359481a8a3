from __future__ import annotations

import re
import typing
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from common.errors import BadInput
from evals.protocols import reading
from evals.protocols.protocol import Protocol
from evals.protocols.reading import load, names
from evals.tasks.knn import Knn
from evals.tasks.methods import METHODS, TASKS, protocol_of, variants

SHIPPED = [protocol_of(name) for name in names()]
CHANGED = {"str": lambda x: f"{x}x", "int": lambda x: x + 1, "float": lambda x: x + 1.0, "bool": lambda x: not x}


def test_every_task_has_protocols_and_every_protocol_a_task():
    assert sorted(name for task in TASKS for name in variants(task)) == sorted(names())
    assert {p.method for p in SHIPPED} == set(METHODS)


@pytest.mark.parametrize("protocol", SHIPPED, ids=lambda p: p.id)
def test_a_protocols_file_is_named_after_it_and_explains_itself(protocol: Protocol):
    text = (reading.FOLDER / f"{protocol.name}.yaml").read_text()
    header = text.split("\nmethod:")[0].splitlines()
    assert len(header) >= 8
    assert all(line.startswith("#") for line in header)
    assert re.search(r"arXiv|DINO", text)
    assert protocol.name.startswith(f"{protocol.task}-")
    assert METHODS[protocol.method].settings is type(protocol)
    assert reading.title(protocol.name)


@pytest.mark.parametrize("protocol", SHIPPED, ids=lambda p: p.id)
def test_every_setting_changes_the_hash(protocol: Protocol):
    hints = typing.get_type_hints(type(protocol))
    for field in fields(protocol):
        value = getattr(protocol, field.name)
        if value is None:
            other: object = 7
        elif isinstance(value, tuple):
            other = (*value, value[-1])
        else:
            other = CHANGED[type(value).__name__](value)
        changed = object.__new__(type(protocol))  # without the checks of values: hashes know nothing of them
        vars(changed).update({**vars(protocol), field.name: other})
        assert changed.hash() != protocol.hash(), (field.name, hints[field.name])


def test_hashes_are_those_that_were_published():
    """A protocol whose meaning changes must raise its version; then its line here changes with it."""
    recorded = dict(line.split() for line in (Path(__file__).parent / "protocol_hashes.txt").read_text().splitlines())
    assert {p.id: p.hash() for p in SHIPPED} == recorded


@dataclass(frozen=True, kw_only=True)
class Sample(Protocol):
    method: ClassVar[str] = "sample"
    task: ClassVar[str] = "sample"

    rates: tuple[float, ...]
    pooling: Literal["cls", "mean"]
    flip: bool


GOOD = """method: sample
name: sample-quick
version: 1
size: 64
precision: float32
train_images: null
test_images: 100
rates: [1, 2e-4]
pooling: cls
flip: true
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_a_file_becomes_settings_of_the_right_types(tmp_path: Path):
    found = load(written(tmp_path, GOOD), Sample)
    assert found == Sample(
        name="sample-quick", version=1, size=64, precision="float32", train_images=None, test_images=100,
        rates=(1.0, 2e-4), pooling="cls", flip=True,
    )  # fmt: skip
    assert load(written(tmp_path, GOOD), Sample, size=128).hash() == replace(found, size=128).hash() != found.hash()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("pooling: cls", "pooling: max", "got 'max' for pooling in .*: want cls, mean; do correct it"),
        ("flip: true", "flip: 1", "got 1 for flip in .*: want bool"),
        ("size: 64", "size: 64.5", "got 64.5 for size"),
        ("size: 64", "size: true", "got True for size"),
        ("rates: [1, 2e-4]", "rates: fast", "got 'fast' for rates"),
        ("rates: [1, 2e-4]", "rates: [fast]", "got 'fast' for rates in .*: want float"),
        ("flip: true", "flipp: true", "got setting 'flipp' in .*did you mean 'flip'\\?"),
        ("flip: true", "", "without flip: want every setting of sample"),
        ("method: sample", "method: knn", "got method 'knn'"),
        ("method: sample", "method: [", "unreadable protocol"),
        (GOOD, "- a list", "without settings"),
    ],
)
def test_a_file_that_does_not_fit_says_what_is_wrong(tmp_path: Path, old: str, new: str, said: str):
    assert old in GOOD
    with pytest.raises(BadInput, match=said):
        load(written(tmp_path, GOOD.replace(old, new)), Sample)


def test_a_changed_copy_may_not_bear_the_name_of_a_protocol_that_ships(tmp_path: Path):
    text = (reading.FOLDER / "knn-quick.yaml").read_text()
    assert protocol_of(str(written(tmp_path, text))) == protocol_of("knn-quick")
    changed = text.replace("temperature: 0.07", "temperature: 0.1")
    assert changed != text
    with pytest.raises(BadInput, match="with the name knn-quick of a protocol that ships, but other settings"):
        protocol_of(str(written(tmp_path, changed)))
    assert protocol_of(str(written(tmp_path, changed.replace("name: knn-quick", "name: knn-warm")))).name == "knn-warm"


def test_a_file_of_another_method_with_the_name_of_a_protocol_that_ships_is_told_of_its_own_name(tmp_path: Path):
    text = (reading.FOLDER / "linear-quick.yaml").read_text().replace("name: linear-quick", "name: knn-quick")
    with pytest.raises(BadInput, match=r"^got .*mine\.yaml with the name knn-quick .* a name of its own; do change"):
        protocol_of(str(written(tmp_path, text)))


@pytest.mark.parametrize(
    ("key", "value", "want"),
    [
        ("size", 0, "at least 1"),
        ("train_images", 0, "at least 1"),
        ("test_images", -3, "at least 1"),
        ("crop_pct", 0.0, "above 0 and at most 1"),
        ("crop_pct", 1.5, "above 0 and at most 1"),
    ],
)
def test_settings_that_all_protocols_share_are_refused_in_one_line(key: str, value: float, want: str):
    with pytest.raises(BadInput, match=rf"^got {key} {value} in knn-quick: want {want}; do correct it$"):
        load("knn-quick", Knn, **{key: value})


def test_an_unknown_protocol_names_the_nearest():
    with pytest.raises(BadInput, match=r"got protocol knn-quik: .*did you mean 'knn-quick'\?$"):
        load("knn-quik", Knn)
    with pytest.raises(BadInput, match=r"got protocol /nowhere/mine\.yaml"):
        protocol_of("/nowhere/mine.yaml")
