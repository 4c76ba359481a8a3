import pytest

from common.errors import BadInput
from common.schema import filled
from evals.datasets.reading import Reading
from evals.datasets.settings import Set


def read(**given):
    return filled(Set, {"kind": "ade20k", "root": "/data", **given}, where="it")


def test_what_is_usual_changes_no_fingerprint():
    assert Reading().changed() == read().changed() == ()
    assert read(ignore=[255, 7]).changed() == (("ignore", (255, 7)),)


def test_one_value_or_colour_stands_for_a_list_and_text_for_the_number_that_json_made_it_of():
    assert read(ignore=255).ignore == (255,)
    assert read(depth_unknown=65535).depth_unknown == (65535,)
    assert read(values={"0": "a", 1: "b"}).values == {0: "a", 1: "b"}
    assert read(palette={"a": [1, 2, 3], "b": [[4, 5, 6], [7, 8, 9]]}).palette == {
        "a": ((1, 2, 3),),
        "b": ((4, 5, 6), (7, 8, 9)),
    }


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"labels": "zero"}, r"it: labels='zero': want one of from_one, from_zero, or null"),
        ({"ignore": -1}, r"ignore\[0\]=-1: want a whole number, from 0 to 65535"),
        ({"values": {"x": "a"}}, r"values: got the key 'x': want a whole number, from 0 to 65535"),
        ({"values": [1]}, r"values=\[1\]: want a mapping of a whole number, from 0 to 65535, to text, or null"),
        ({"values": {0: "a", 9: "ignore"}}, r"values=.*: want two classes at least"),
        ({"values": {0: "a", 1: "b"}, "labels": "from_zero"}, r"labels='from_zero': want none beside values"),
        ({"values": {0: "a", 1: "b"}, "ignore": 1}, r"ignore=\[1\]: want no value that values names, as 1"),
        ({"palette": {"a": [1, 2]}}, r"palette\.a\[0\]=\[1, 2\]: want a list of 3 values"),
        (
            {"palette": {"a": [0, 0, 0], "b": [0, 0, 256]}},
            r"palette\.b\[0\]\[2\]=256: want a whole number, from 0 to 255",
        ),
        ({"palette": {"a": [1, 2, 3], "b": [1, 2, 3]}}, r"palette: want \[1, 2, 3\] for one class"),
        ({"palette": {"a": [1, 2, 3], "b": [0, 0, 0]}, "ignore": 0}, r"ignore=.*beside palette.*palette\.ignore"),
        ({"palette": {"a": [1, 2, 3], "b": [0, 0, 0]}, "values": {0: "a", 1: "b"}}, r"values=.*: want none beside pal"),
        ({"depth_scale": 0}, r"depth_scale=0: want a number, above 0, or null"),
    ],
)
def test_readings_that_cannot_be_meant_are_refused(given, message):
    with pytest.raises(BadInput, match=message):
        read(**given)
