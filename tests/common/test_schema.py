from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pytest

from common.bounds import (
    About,
    Choices,
    Count,
    Flag,
    Label,
    Name,
    Natural,
    NotNegative,
    Pixels,
    Place,
    Positive,
    Range,
    Real,
    Seed,
    Share,
    ShareBelowOne,
    SomeShare,
    Whole,
    described,
)
from common.errors import BadInput
from common.schema import filled, phrase, settings, wanted

NOT_FINITE = (math.nan, math.inf, -math.inf)


def one(kind: Any) -> Any:
    """A class with one setting of this kind."""
    return settings(type("Toy", (), {"__annotations__": {"value": kind}}))


@pytest.mark.parametrize(
    ("kind", "words", "good", "bad"),
    [
        (Flag, "true or false", (True, False), (1, "true", None)),
        (str, "text", ("", "1"), (1, None, ["a"])),
        (Whole, "a whole number", (-7, 0, 2**63 - 1), (1.0, "1", True, None, 2**63, -(2**63) - 1)),
        (Natural, "a whole number, at least 0", (0, 7, 10**9), (-1, 0.0, 10**9 + 1)),
        (Count, "a whole number, at least 1", (1, 7), (0, True, 10**30)),
        (Seed, "a whole number, at least 0", (0, 2**63 - 1), (-1, 2**70)),
        (Pixels, "a whole number, from 1 to 32768", (1, 32768), (0, 8_000_000)),
        (
            Name,
            "a name of letters, digits, '.', '_' and '-', at most 100 bytes",
            ("a", "knn-v1.0", "_x", "é"),
            ("", "-a", ".", "..", "a b", "a/b", "a\\b", "a\n", "\0", "x" * 101, "é" * 51, 1),
        ),
        (
            Label,
            "a name of printed characters, at most 100 bytes",
            ("ADE20K (val)", "a/b", "é"),
            ("", " a", "a ", "a\nb", "a\0b", "\u202ea", "x" * 101),
        ),
        (
            Place,
            "a path without control characters",
            ("/a b/c", "..", "caf\udce9"),
            ("", " ", "a\0b", "a\nb", "x" * 256, "é" * 128, "a/" * 2049),
        ),
        (Real, "a number", (-3, 0.0, 1e-4), (*NOT_FINITE, "1e-4", "2.0", "x", "inf", True, None, 10**400)),
        (NotNegative, "a number, at least 0", (0, 2.5), (-1, -1e-9, *NOT_FINITE)),
        (Positive, "a number, above 0", (1e-9, 3), (0, -1, *NOT_FINITE)),
        (Share, "a number, from 0 to 1", (0, 0.5, 1), (-0.1, 1.1, *NOT_FINITE)),
        (SomeShare, "a number, above 0 and at most 1", (1e-9, 1), (0, 1.1)),
        (ShareBelowOne, "a number, at least 0 and below 1", (0, 0.99), (1, -0.1)),
        (Positive | None, "a number, above 0, or null", (None, 1), (0, "null")),
        (Literal["a", "b"], "one of a, b", ("a",), ("c", 1, None)),
        (
            Range[Positive],
            "a list of 2 rising values, each a number, above 0",
            ([1, 2], (2.0, 2.0)),
            ([2, 1], [0, 1], [1], [1, 2, 3], 1, None),
        ),
        (
            Choices[Count],
            "a list of one or more different values, each a whole number, at least 1",
            ([3], (2, 1)),
            ([], [1, 1], [0], [True], 1),
        ),
        (tuple[Whole, Whole], "a list of 2 values, each a whole number", ([2, 1],), ([2.5, 1], [1])),
        (list[Whole], "a list of values, each a whole number", ([], [1]), ([1.5], 1)),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_a_kind_takes_what_its_words_say_and_nothing_else(kind: Any, words: str, good: Any, bad: Any):
    made = one(kind)
    assert wanted(kind) == words
    for value in good:
        assert made(value=value) == filled(made, {"value": value}, where="toy")
    for value in bad:
        with pytest.raises(BadInput, match=r"^Toy: value.*: want "):
            made(value=value)
        with pytest.raises(BadInput, match=r"^toy: value.*: want "):
            filled(made, {"value": value}, where="toy")


@pytest.mark.parametrize(("kind", "value", "kept"), [(Real, 1, 1.0), (Whole, 1, 1)])
def test_whole_numbers_become_the_number_that_is_meant(kind: Any, value: Any, kept: Any):
    found = one(kind)(value=value).value
    assert (found, type(found)) == (kept, type(kept))


@settings
class Room:
    low: Annotated[Positive, About("metres; not the floor")] = 1.0
    high: Positive = 2.0

    def conflicts(self) -> Iterator[str]:
        if self.low >= self.high:
            yield f"low={self.low}: want below high={self.high}"
        if self.high > 100:
            yield f"high={self.high}: want a room"


@settings
class House:
    name: str = ""
    hall: Annotated[Room, About("the one behind the door")] = dataclasses.field(default_factory=Room)
    rooms: dict[str, Room] = dataclasses.field(default_factory=dict)
    doors: Annotated[tuple[Count, ...], About("their widths", "arXiv")] = (1,)


def refusal(plain: dict[Any, Any]) -> list[str]:
    with pytest.raises(BadInput) as error:
        filled(House, plain, where="house.yaml")
    return str(error.value).splitlines()


def test_one_fault_is_one_line_with_path_value_what_is_wanted_and_what_for():
    assert refusal({"hall": {"low": 0}}) == ["house.yaml: hall.low=0: want a number, above 0 (metres)"]


@pytest.mark.parametrize(
    ("meaning", "first"),
    [
        ("a folder; null = none", "a folder"),
        ("a folder (of photos); null = none", "a folder (of photos)"),
        ("a folder (`a`: of photos; `b`: of rooms); null = none", "a folder"),
    ],
)
def test_what_a_setting_means_is_told_without_half_a_bracket(meaning: str, first: str):
    assert phrase(meaning) == first


def test_all_faults_are_told_at_once_each_with_its_full_path():
    plain = {
        "hall": {"low": "x", "high": None, "hihg": 1},
        "rooms": {"a": {"low": math.inf}, "b": 5, 3: {}, "c": {"low": 9, "high": 3}},
        "doors": [1, 0],
        "name": True,
        "roof": 1,
    }
    assert refusal(plain) == [
        "house.yaml: 10 settings cannot be meant",
        "  name=true: want text; put it in quotes, on a command line in two kinds: \"'true'\"",
        "  hall.low='x': want a number, above 0 (metres)",
        "  hall.high=null: want a number, above 0",
        "  unknown setting 'hall.hihg'; did you mean hall.high?",
        "  rooms.a.low=inf: want a number, above 0 (metres); and a finite one",
        "  rooms.b=5: want settings below it, {} for none",
        "  rooms[3]: want a name that is text; put it in quotes",
        "  rooms.c.low=9.0: want below high=3.0",
        "  doors[1]=0: want a whole number, at least 1 (their widths)",
        "  unknown setting 'roof'; did you mean rooms?",
    ]


@pytest.mark.parametrize(("value", "shown"), [(None, "null"), ({"x": 3}, "{'x': 3}"), ([1], "[1]")])
def test_what_quotes_would_not_make_the_text_that_is_meant_is_not_told_to_stand_in_them(value: Any, shown: str):
    assert refusal({"name": value}) == [f"house.yaml: name={shown}: want text"]


def test_a_name_that_is_null_is_not_told_to_stand_in_quotes():
    assert refusal({"rooms": {None: {}}}) == ["house.yaml: rooms.None: want a name that is text"]


@pytest.mark.parametrize(
    ("text", "told"), [("8", True), ("-8", True), ("8.5", False), ("eight", False), ("", False), (None, False)]
)
def test_text_that_reads_as_a_whole_number_is_told_how_a_variable_becomes_one(text: str | None, told: bool):
    (line,) = refusal({"doors": [text]})
    assert line.endswith("at least 1 (their widths)" + "; from a variable write ${oc.decode:${oc.env:NAME}}" * told)


def test_everything_that_two_settings_exclude_is_told_at_once():
    assert refusal({"hall": {"low": 300, "high": 200}}) == [
        "house.yaml: 2 settings cannot be meant",
        "  hall.low=300.0: want below high=200.0",
        "  hall.high=200.0: want a room",
    ]


@pytest.mark.parametrize(
    ("key", "hint"), [("nmae", "did you mean name?"), ("low", "did you mean hall.low?"), ("zzz", "want name, hall")]
)
def test_an_unknown_setting_is_told_the_nearest_or_all(key: str, hint: str):
    assert f"unknown setting '{key}'; {hint}" in refusal({key: 1})[0]


def test_settings_made_in_code_are_checked_and_name_themselves_or_their_class():
    with pytest.raises(BadInput, match=r"^Room: low=-1: want a number, above 0 \(metres\)$"):
        Room(low=-1)
    with pytest.raises(BadInput, match=r"^mine: doors=\[\]|^mine: doors\[0\]=0"):
        House(name="mine", doors=(0,))
    with pytest.raises(BadInput, match=r"^Room: low=3.0: want below high=2.0$"):
        dataclasses.replace(Room(), low=3)


def test_settings_are_frozen_and_survive_copying_and_pickling():
    house = House(rooms={"a": Room(high=3)})
    with pytest.raises(dataclasses.FrozenInstanceError):
        house.name = "b"  # pyright: ignore
    assert pickle.loads(pickle.dumps(house)) == house == dataclasses.replace(house)
    assert dataclasses.asdict(house)["rooms"] == {"a": {"low": 1.0, "high": 3.0}}


def test_a_class_describes_every_setting_in_it():
    found = {setting.key: setting for setting in described(House)}
    assert list(found) == ["name", "hall.low", "hall.high", "rooms.NAME.low", "rooms.NAME.high", "doors"]
    assert found["hall.low"].about == About("metres; not the floor")
    assert (found["doors"].default, found["doors"].about.source) == ((1,), "arXiv")
