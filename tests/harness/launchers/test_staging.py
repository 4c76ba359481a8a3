"""Data sets on a node's disk: copied once, known as the same sets, copied anew when they change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.settings import Set
from harness.data.pool import fingerprint, open_pool
from harness.data_settings import Data
from harness.launchers.staging import copied, staged


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    for number in range(4):
        path = folder / ("first", "second")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), number, dtype=np.uint8)).save(path)
    return folder


def test_a_copy_has_the_fingerprint_of_the_set(photos, tmp_path):
    copy = copied(photos, tmp_path / "node")
    assert copy != photos
    prints = [
        fingerprint(open_pool(Data(sources={"photos": Set(kind="folder", root=str(root))}))) for root in (photos, copy)
    ]
    assert prints[0] == prints[1]


def test_a_set_is_copied_once_until_it_changes(photos, tmp_path):
    first = copied(photos, tmp_path / "node")
    (first / "mark").write_text("still the first copy")
    assert copied(photos, tmp_path / "node") == first
    assert (first / "mark").exists()
    Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(photos / "first" / "new.png")
    again = copied(photos, tmp_path / "node")
    assert again != first
    assert (again / "first" / "new.png").exists()


def test_roots_in_sections_and_in_overrides_of_arms_are_replaced_and_nothing_else(photos, tmp_path):
    plain = {
        "data": {"sources": {"photos": {"kind": "folder", "root": str(photos)}, "rooms": {"root": None}}},
        "arms": {"other": {"data.sources.photos.root": str(photos), "gram.weight": 2.0}},
    }
    found = staged(plain, str(tmp_path / "node"))
    copy = str(copied(photos, tmp_path / "node"))
    assert found == {
        "data": {"sources": {"photos": {"kind": "folder", "root": copy}, "rooms": {"root": None}}},
        "arms": {"other": {"data.sources.photos.root": copy, "gram.weight": 2.0}},
    }


def test_variables_are_those_of_the_node_and_an_unknown_one_is_refused(photos, tmp_path, monkeypatch):
    plain = {"root": str(photos)}
    monkeypatch.setenv("NODE_DISK", str(tmp_path / "node"))
    assert staged(plain, "$NODE_DISK/sets")["root"].startswith(str(tmp_path / "node" / "sets"))
    with pytest.raises(BadInput, match="the node has no variable NO_DISK"):
        staged(plain, "${NO_DISK}/sets")


def test_a_set_that_is_not_there_is_told(tmp_path):
    with pytest.raises(BadInput, match="nowhere cannot be copied to"):
        copied(tmp_path / "nowhere", tmp_path / "node")
