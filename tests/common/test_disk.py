from __future__ import annotations

from pathlib import Path

import pytest

from common.disk import whole


def test_a_file_takes_its_place_when_it_is_complete(tmp_path: Path):
    path = tmp_path / "new" / "table.csv"
    with whole(path) as fragment:
        fragment.write_text("all of it")
        assert fragment.suffix == ".csv"
        assert fragment.parent == path.parent
        assert not path.exists()
    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_the_old_file_and_no_fragment(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("old")

    def interrupted() -> None:
        with whole(path) as fragment:
            fragment.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_at_once_do_not_mix(tmp_path: Path):
    path = tmp_path / "table.csv"
    with whole(path) as first:
        first.write_text("one")
        with whole(path) as second:
            second.write_text("two")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
