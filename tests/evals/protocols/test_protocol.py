from __future__ import annotations

import math
import re
import typing
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from common.bounds import Flag, Real, core, hints
from common.errors import BadInput
from common.schema import filled, settings
from evals.protocols import reading
from evals.protocols.protocol import Protocol
from evals.protocols.reading import load, names
from evals.tasks.knn import Knn
from evals.tasks.methods import METHODS, TASKS, protocol_of, variants


def kind(protocol: Protocol, field: Field[object]) -> type:
    """The type of a setting, or of the values that it lists."""
    found = core(hints(type(protocol))[field.name])
    return core(typing.get_args(found)[0]) if typing.get_origin(found) is tuple else found


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


@settings
class Sample(Protocol):
    method: ClassVar[str] = "sample"
    task: ClassVar[str] = "sample"

    rates: tuple[Real, ...]
    pooling: Literal["cls", "mean"]
    flip: Flag


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
        ("pooling: cls", "pooling: max", "^.*mine.yaml: pooling='max': want one of cls, mean$"),
        ("flip: true", "flip: 1", "flip=1: want true or false"),
        ("size: 64", "size: 64.5", "size=64.5: want a whole number, from 1 to 32768 \\(short side"),
        ("size: 64", "size: true", "size=true: want a whole number"),
        ("rates: [1, 2e-4]", "rates: fast", "rates='fast': want a list of values, each a number$"),
        ("rates: [1, 2e-4]", "rates: [fast]", "rates\\[0\\]='fast': want a number$"),
        ("flip: true", "flipp: true", "unknown setting 'flipp'; did you mean flip\\?$"),
        ("flip: true", "", "mine.yaml: flip is missing: want true or false$"),
        ("method: sample", "method: knn", "got method 'knn'"),
        ("method: sample", "method: [", "unreadable protocol"),
        (GOOD, "- a list", "without settings"),
        ("flip: true", "flip: true\nflip: false", "found duplicate key 'flip', first in line"),
        (GOOD, "", "without settings"),
    ],
)
def test_a_file_that_does_not_fit_says_what_is_wrong(tmp_path: Path, old: str, new: str, said: str):
    assert old in GOOD
    with pytest.raises(BadInput, match=said):
        load(written(tmp_path, GOOD.replace(old, new)), Sample)


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path):
    changes = {"size: 64": "size: 0", "flip: true": "flipp: true", "rates: [1, 2e-4]": "rates: [1, .inf, fast]"}
    text = GOOD
    for old, new in changes.items():
        text = text.replace(old, new)
    place = written(tmp_path, text)
    with pytest.raises(BadInput) as refusal:
        load(place, Sample)
    assert str(refusal.value).splitlines() == [
        f"{place}: 5 settings cannot be meant",
        "  size=0: want a whole number, from 1 to 32768 (short side of the input in pixels)",
        "  rates[1]=inf: want a number; and a finite one",
        "  rates[2]='fast': want a number",
        "  flip is missing: want true or false",
        "  unknown setting 'flipp'; did you mean flip?",
    ]


FLOATS = [(protocol, field) for protocol in SHIPPED for field in fields(protocol) if kind(protocol, field) is float]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("protocol", "field"), FLOATS, ids=lambda x: getattr(x, "name", x))
def test_what_is_not_finite_is_refused_for_every_number(protocol: Protocol, field: Field[object], value: float):
    old = getattr(protocol, field.name)
    new, place = ((value, *old[1:]), r"\[0\]") if isinstance(old, tuple) else (value, "")
    with pytest.raises(BadInput, match=rf"^{protocol.name}: {field.name}{place}={value}: want a "):
        replace(protocol, **{field.name: new})


WRONG = {int: ("7", True, 7.5), float: ("seven", True), bool: (1, "true")}


@pytest.mark.parametrize("protocol", SHIPPED, ids=lambda p: p.id)
def test_a_value_of_another_type_is_refused_for_every_setting(protocol: Protocol):
    for field in fields(protocol):
        old = getattr(protocol, field.name)
        for wrong in WRONG.get(kind(protocol, field), (7, False)):
            with pytest.raises(BadInput, match=rf"\b{field.name}(\[0\])?=.*: want "):
                filled(
                    type(protocol),
                    vars(protocol) | {field.name: [wrong] * len(old) if isinstance(old, tuple) else wrong},
                    where="mine",
                )


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
        ("size", 0, "from 1 to 32768"),
        ("version", -1, "at least 1"),
        ("train_images", 0, "at least 1"),
        ("test_images", -3, "at least 1"),
        ("crop_pct", 0.0, "above 0 and at most 1"),
        ("crop_pct", 1.5, "above 0 and at most 1"),
    ],
)
def test_settings_that_all_protocols_share_are_refused_in_one_line(key: str, value: float, want: str):
    with pytest.raises(BadInput, match=rf"^knn-quick: {key}={value}: want a (whole )?number, {want}.* \(.*\)$"):
        load("knn-quick", Knn, **{key: value})


@pytest.mark.parametrize("name", ["my knn", "a/b", "..", "-x", "", "x" * 101])
def test_a_name_that_would_be_no_name_of_a_file_is_refused(name: str):
    with pytest.raises(BadInput, match=r"name='.*': want a name of letters, digits, '\.', '_' and '-', at most 100"):
        replace(protocol_of("knn"), name=name)


@pytest.mark.parametrize(
    ("choice", "changes"),
    [("logreg", {"held_out": 1}), ("linear-quick", {"held_out": 1.0}), ("linear-quick", {"batch_size": 10**9})],
)
def test_values_without_sense_are_refused(choice: str, changes: dict[str, float]):
    (key, value), shipped = *changes.items(), protocol_of(choice)
    with pytest.raises(BadInput, match=rf"{key}={value}: want a "):
        replace(shipped, **changes)


def test_an_unknown_protocol_names_the_nearest():
    with pytest.raises(BadInput, match=r"got protocol knn-quik: .*did you mean 'knn-quick'\?$"):
        load("knn-quik", Knn)
    with pytest.raises(BadInput, match=r"got protocol /nowhere/mine\.yaml, and no such file: want a \.yaml file"):
        protocol_of("/nowhere/mine.yaml")
