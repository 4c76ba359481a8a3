"""Generated tables of results and curves: whole rows are read, what is none is told, and the file stays as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from common.records import CurvePoint, read_lines
from evals.results import table
from evals.results.table import COLUMNS, Row
from tests.properties.generated import answered, cases, held

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
TEXT = st.text(max_size=10)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
ROWS = st.builds(
    Row, run=TEXT, arm=TEXT, seed=st.integers(0, 9), step=st.integers(0, 10**6), eval=TEXT, protocol=TEXT,
    protocol_hash=TEXT, size=st.integers(0, 1024), dataset=TEXT, split=TEXT, data=TEXT, metric=TEXT, value=NUMBER,
    low=NUMBER, high=NUMBER, images=st.integers(0, 10**6),
)  # fmt: skip
GOOD = {**dict.fromkeys(COLUMNS, "a"), **dict.fromkeys(("seed", "step", "size", "images"), 1)}
GOOD |= dict.fromkeys(("value", "low", "high"), 0.5)


def lines(*inner: st.SearchStrategy[Any]) -> st.SearchStrategy[list[bytes]]:
    """Lines of JSON of these kinds, and of anything."""
    return st.lists(st.one_of(*(one.map(lambda x: json.dumps(x).encode()) for one in inner), st.binary(max_size=20)))


@cases(60)
@given(rows=st.lists(ROWS, max_size=5))
def test_rows_that_were_written_are_read_as_they_were(place, rows):
    path = place / "written.jsonl"
    path.unlink(missing_ok=True)
    for row in rows:
        table.append(path, [row])
    found = table.read(path)
    assert found.rows == table.latest(rows)
    assert not found.damaged


@cases(100)
@given(
    content=lines(JSON, st.dictionaries(st.sampled_from(COLUMNS), JSON).map(lambda x: {**GOOD, **x})),
    ends=st.booleans(),
)
def test_a_table_of_generated_lines_is_read_but_for_those_that_are_told(place, content, ends):
    path = place / "results.jsonl"
    path.write_bytes(b"\n".join(content) + (b"\n" if ends else b""))
    before = held(place)
    found: list[Any] = []
    assert answered(lambda: found.append(table.read(path))).code == 0
    (read,) = found
    assert len(read.rows) + len(read.damaged) <= path.read_bytes().count(b"\n") + 1
    answered(lambda: table.load(path), str(path))
    assert held(place) == before


@cases(60)
@given(rows=st.lists(ROWS, min_size=2, max_size=4), torn=st.integers(1, 400), data=st.data())
def test_a_table_that_was_torn_loses_its_last_row_alone_and_takes_rows_again(place, rows, torn, data):
    path: Path = place / "torn.jsonl"
    whole = "".join(table.line(row) + "\n" for row in rows).encode()
    last = len(table.line(rows[-1])) + 1
    path.write_bytes(whole[: -min(torn, last)])
    table.append(path, rows[-1:])
    found = table.read(path)
    assert (found.rows, found.damaged) == (table.latest(rows), {})


@cases(60)
@given(content=lines(JSON, st.dictionaries(st.sampled_from(["step", "images", "seconds", "loss", "gram"]), JSON)))
def test_a_curve_of_generated_lines_is_read_but_for_those_that_are_told(place, content):
    path = place / "metrics.jsonl"
    path.write_bytes(b"\n".join(content))
    found: list[Any] = []
    assert answered(lambda: found.append(read_lines(path, CurvePoint))).code == 0
    assert all(isinstance(row["step"], int) for row in found[0].rows)
    assert all(str(path) in told for told in found[0].told())
