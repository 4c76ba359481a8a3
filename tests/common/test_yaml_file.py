"""One YAML file: values arrive as they are written, and what means two things or never ends is refused in one line."""

import math

import pytest

from common.errors import BadInput
from common.yaml_file import LARGEST, read

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)


@pytest.fixture
def reading(tmp_path):
    def of(content: str | bytes):
        path = tmp_path / "some.yaml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read(path)

    return of


def test_numbers_with_and_without_a_point_are_numbers_and_what_has_two_readings_is_text(reading):
    found = reading("a: 1e-4\nb: -1.5E3\nc: .5\nd: 1_000\ne: 0x10\nf: +3\ng: -.inf\nh: 010\ni: 1:30\nj: 2024-01-01\n")
    assert found == {
        "a": 1e-4, "b": -1500.0, "c": 0.5, "d": 1000, "e": 16, "f": 3, "g": -math.inf,
        "h": "010", "i": "1:30", "j": "2024-01-01",
    }  # fmt: skip
    assert [type(found[key]) for key in "bd"] == [float, int]


def test_aliases_and_merged_mappings_are_written_out(reading):
    assert reading("a: &x {d: 1}\nb: *x\nc: {<<: *x, e: 2}") == {"a": {"d": 1}, "b": {"d": 1}, "c": {"d": 1, "e": 2}}


@pytest.mark.parametrize("content", ["", "# nothing\n", "---\n...\n"])
def test_an_empty_file_is_an_empty_mapping(reading, content):
    assert reading(content) == {}


def test_a_mark_of_utf_8_at_the_start_is_no_part_of_the_first_key(reading):
    assert reading(b"\xef\xbb\xbfa: caf\xc3\xa9") == {"a": "café"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: 1\nb: {c: 1,\n  'c': 2}", "line 3: found duplicate key 'c', first in line 2"),
        ("a: &x [*x]", "line 1: *x leads into itself"),
        ("a: *y", "line 1: *y leads into itself, or to no anchor before it"),
        (BOMB, "line 5: more than 20000 values, aliases written out"),
        ("[" * 2000, "line 1: nested more than 40 deep"),
        ("a: " + "{a: " * 2000, "line 1: nested more than 40 deep"),
        ("\n".join(" " * i + "a:" for i in range(500)), "line 41: nested more than 40 deep"),
        ("a:\n\t- 1", "line 2: a tab; indent by blanks"),
        ("a: 1\nb: ???", "line 2: ??? stands for a value that is missing"),
        ("? [1]\n: 2", "line 1: a key that is no name"),
        ("a: !!int abc", "line 1: tag !!int: want plain values"),
        ("a: !!bool maybe", "line 1: tag !!bool: want plain values"),
        ('a: !!int ""', "line 1: tag !!int: want plain values"),
        ("a: {'': 1, ? : 5}", "line 1: a key that is no name"),
        ("a: 1\n---\nb: 2", "line 2: a second document begins"),
        ("a: !!python/object:os.system x", "line 1: tag !!python/object:os.system: want plain values"),
        ("a: !!binary abc", "line 1: tag !!binary"),
        ("- 1", "want a mapping"),
        ("a: [", "line 1: "),
        ("a: @x", "line 1: "),
        ("<<: 1", "line 1: "),
        ("%YAML 9.9\n---\na: 1", "line 1: "),
        ("a: x\0", "line 1: control character 0x00"),
        ('a: "\\0"', "line 1: character 0x0000"),
        ('a: "\\ud800"', "line 1: character 0xd800"),
        ("a: 1\n".encode("utf-16"), "UTF-16 is no UTF-8: want a text file; save it as UTF-8"),
        ("a: 1\nb: café".encode("latin-1"), "line 2: a byte 0xe9 is no UTF-8"),
        (bytes(range(256)), "no UTF-8"),
        (b"a: 1 #" + b"x" * LARGEST, f"more than {LARGEST} bytes"),
    ],
    ids=lambda given: ascii(given[:16]),
)  # fmt: skip
def test_a_file_that_cannot_be_meant_is_refused_by_its_line(reading, content, said):
    with pytest.raises(BadInput) as error:
        reading(content)
    assert said in str(error.value)
    assert "some.yaml: " in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_file_is_refused_by_its_name(tmp_path):
    for path in (tmp_path, tmp_path / "missing.yaml", tmp_path / ("x" * 300)):
        with pytest.raises(BadInput, match=r"cannot be read \("):
            read(path)
