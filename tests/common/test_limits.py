from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from common.errors import BadInput
from common.limits import COUNT, FINITE, NATURAL, POSITIVE, SHARE, Limit, check
from evals.protocols.protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class Toy(Protocol):
    method: ClassVar[str] = "toy"
    task: ClassVar[str] = "toy"

    value: Any


@pytest.mark.parametrize(
    ("limit", "good", "bad"),
    [
        (COUNT, (1, 7), (0, -1)),
        (NATURAL, (0, 2.5), (-1, -1e-9, math.inf)),
        (POSITIVE, (1e-9, 3), (0, -1, math.nan, math.inf)),
        (SHARE, (0, 0.5, 1), (-0.1, 1.1, math.nan)),
        (FINITE, (-3, 0.0), (math.nan, -math.inf)),
        (Limit(low=0, high=1, below=True), (0, 0.99), (1,)),
        (POSITIVE.list_of(2, rising=True), ((1, 2), (2, 2)), ((2, 1), (0, 1), (1,), (1, 2, 3))),
        (FINITE.list_of(2), ((2, 1), (0, 0)), ((1, math.nan), ())),
    ],
    ids=str,
)
def test_a_limit_holds_for_what_it_says_and_for_nothing_else(limit: Limit, good: tuple[Any, ...], bad: tuple[Any, ...]):
    assert [limit.holds(value) for value in good] == [True] * len(good)
    assert [limit.holds(value) for value in bad] == [False] * len(bad)


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        (COUNT, 0, "got value 0 in toy-quick: want at least 1; do correct it"),
        (SHARE, 2.5, "got value 2.5 in toy-quick: want at least 0 and at most 1; do correct it"),
        (POSITIVE, math.inf, "got value inf in toy-quick: want above 0; do correct it"),
        (
            POSITIVE.list_of(2, rising=True),
            (2.0, 0.5),
            "got value [2.0, 0.5] in toy-quick: want 2 rising numbers, each above 0; do correct it",
        ),
    ],
)
def test_the_refusal_names_setting_value_protocol_and_what_is_wanted(limit: Limit, value: Any, words: str):
    protocol = Toy(**fields(value))
    with pytest.raises(BadInput) as refusal:
        check(protocol, {"value": limit})
    assert str(refusal.value) == words


def test_a_setting_that_is_switched_off_has_no_limit():
    check(Toy(**fields(None)), {"value": COUNT})


def fields(value: Any) -> dict[str, Any]:
    return {
        "name": "toy-quick",
        "version": 1,
        "size": 32,
        "precision": "float32",
        "train_images": None,
        "test_images": None,
        "value": value,
    }
