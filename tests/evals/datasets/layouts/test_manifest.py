"""Manifests: what is kept of a row, from the cache or not, and the hashes that runs of earlier versions have."""

import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.layouts import manifest_rows
from evals.datasets.layouts.manifest_rows import KEY, Digest
from evals.datasets.subset import Subset

ROOMS = {"kind": "scenes", "root": None, "split": "train", "name": None, "size": 16, "seed": 0, "classes": None}
SIZES = {"few": 5, "many": 40}


@pytest.fixture
def write(tmp_path):
    """A manifest of two sources of rooms, rows in turn, with clusters on two levels."""

    def make(rows=45, seed=0):
        draw, digest = np.random.default_rng(seed), Digest()
        wanted = [("few" if row % 9 == 0 else "many", row) for row in range(rows)]
        source = [name for name, _ in wanted]
        place = [row // 9 if name == "few" else row - row // 9 - 1 for name, row in wanted]
        low, kept = draw.integers(0, 12, rows), draw.random(rows) < 0.8
        columns = {
            "source": pa.array(source), "image": pa.array([f"train/{one:06d}" for one in place]),
            "place": pa.array(place, pa.int64()), "level_1": pa.array(low, pa.int32()),
            "level_2": pa.array(low % 4, pa.int32()), "sampled": pa.array(kept & (low > 3)),
            "retrieved": pa.array(kept & (low <= 3)), "kept": pa.array(kept),
        }  # fmt: skip
        batch = pa.record_batch(columns)
        digest.add(batch)
        sources = {name: {**ROOMS, "name": name, "count": count, "reading": {}} for name, count in SIZES.items()}
        about = {"sources": sources, "levels": 2, "digest": digest.hex()}
        path = tmp_path / "manifest.parquet"
        with pq.ParquetWriter(path, batch.schema) as file:
            file.write_batch(batch)
            file.add_key_value_metadata({KEY.decode(): json.dumps(about)})
        return path

    return make


def in_one_text(found, path, split, level):
    """The hash of a manifest as it was made before rows were kept in few bytes: all of the text at once."""
    table = pq.read_table(path).to_pydict()
    flags = {"train": "kept", "sampled": "sampled"}.get(split)
    rows = [row for row in range(len(table["place"])) if flags is None or table[flags][row]]
    ways = [tuple(table[f"level_{n}"][row] for n in range(2, level - 1, -1)) for row in rows] if level else []
    known = sorted(set(ways))
    names = [table["source"][row] for row in rows]
    parts = []
    for name in SIZES:
        own = [table["place"][row] for row in rows if table["source"][row] == name]
        if own:
            parts.append([name, Subset(found._sources[name], own).fingerprint()])
    told = [parts, names, [".".join(map(str, way)) for way in known], [known.index(way) for way in ways]]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@pytest.mark.parametrize(
    ("split", "classes", "level"), [("train", None, 2), ("all", ["level_1"], 1), ("sampled", [], None)]
)
@pytest.mark.parametrize("block", [7, 1 << 16])
def test_the_fingerprint_is_that_of_earlier_versions(write, monkeypatch, tmp_path, split, classes, level, block):
    monkeypatch.setattr(manifest_rows, "BLOCK", block)
    monkeypatch.setattr("evals.datasets.layouts.manifest.BLOCK", block)
    path = write()
    for cache in (None, tmp_path / "cache", tmp_path / "cache"):
        found = open_set("manifest", root=path, split=split, classes=classes, cache=cache)
        assert found.fingerprint() == in_one_text(found, path, split, level)


def test_a_single_image_has_the_fingerprint_of_earlier_versions(write):
    path = write(rows=1, seed=1)
    found = open_set("manifest", root=path, split="all", classes=["level_1"])
    assert found.fingerprint() == in_one_text(found, path, "all", 1)


def test_rows_from_the_cache_are_those_of_the_file_and_lie_in_a_map(write, tmp_path, monkeypatch):
    path, cache = write(), tmp_path / "cache"
    plain = open_set("manifest", root=path)
    open_set("manifest", root=path, cache=cache)
    monkeypatch.setattr(manifest_rows, "_read", None)  # nothing is read from the file any more
    again = open_set("manifest", root=path, cache=cache)
    assert [again.key(at) for at in range(len(again))] == [plain.key(at) for at in range(len(plain))]
    assert [again.label(at) for at in range(len(again))] == [plain.label(at) for at in range(len(plain))]
    assert again.classes == plain.classes
    assert isinstance(again._rows.place, np.memmap)
    some = open_set("manifest", root=path, cache=cache, count=4)
    assert {some.key(at) for at in range(4)} <= {plain.key(at) for at in range(len(plain))}
    assert set(some.classes) <= set(plain.classes)
    assert sorted({some.label(at) for at in range(4)}) == list(range(len(some.classes)))


def test_another_manifest_and_damage_in_the_cache_are_noticed(write, tmp_path):
    path, cache = write(), tmp_path / "cache"
    open_set("manifest", root=path, cache=cache)
    (entry,) = (cache / "manifests").iterdir()
    place = entry / "place.npy"
    place.write_bytes(place.read_bytes()[:-8])
    whole = open_set("manifest", root=path, cache=cache)
    assert whole.fingerprint() == open_set("manifest", root=path).fingerprint()
    path = write(seed=5)
    assert open_set("manifest", root=path, cache=cache).fingerprint() != whole.fingerprint()
    assert len([*(cache / "manifests").iterdir()]) == 1


def test_unknown_splits_and_levels_are_refused(write):
    with pytest.raises(BadInput, match=r"got split 'trian' for .*; did you mean 'train'"):
        open_set("manifest", root=write(), split="trian")
    with pytest.raises(BadInput, match=r"got classes \['level_3'\] for "):
        open_set("manifest", root=write(), classes=["level_3"])
