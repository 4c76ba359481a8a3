"""Files written whole, and read with what to do where they are damaged."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from common.disk import read_json, read_rows, whole, write_json
from common.errors import BadInput


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


def test_no_file_is_no_rows(tmp_path):
    assert read_rows(tmp_path / "none.jsonl") == []


def test_a_file_is_replaced_whole(tmp_path):
    path = tmp_path / "deep" / "status.json"
    write_json(path, {"state": "running"})
    with pytest.raises(TypeError):
        write_json(path, {"state": object()})
    assert json.loads(path.read_text()) == {"state": "running"}
    assert [p.name for p in path.parent.iterdir()] == ["status.json"]


def test_what_was_written_is_read_and_what_is_damaged_is_named(tmp_path):
    path = tmp_path / "status.json"
    write_json(path, {"state": "done", "steps": 6})
    assert read_json(path, remedy="remove it") == {"state": "done", "steps": 6}
    whole = path.read_bytes()
    for damage in (b"", whole[:-5], b"\x00\xff", b'["done"]', b"null"):
        path.write_bytes(damage)
        with pytest.raises(BadInput) as error:
            read_json(path, remedy="do this")
        assert str(error.value).startswith(str(path))
        assert str(error.value).endswith("do this")
        assert "\n" not in str(error.value)


def test_a_file_reaches_the_disk_before_it_takes_the_place_of_the_old(tmp_path, monkeypatch):
    path, seen = tmp_path / "status.json", []
    real = os.fsync

    def fsync(descriptor):
        seen.append((os.fstat(descriptor).st_size, path.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(path, {"state": "done"})
    assert seen == [(path.stat().st_size, False)]
