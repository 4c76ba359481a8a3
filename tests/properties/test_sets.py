"""Generated files of data sets: a set in YAML, a table of classes, a manifest; opened, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from common.bounds import described
from evals.datasets.catalogue import open_set
from evals.datasets.layouts.class_table import read_table
from evals.datasets.layouts.manifest_rows import KEY, Digest
from evals.datasets.set_file import read_set
from evals.datasets.settings import Set
from tests.properties.generated import answered, cases, held

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)
KEYS = [setting.key for setting in described(Set)]
SCENES = {"kind": "scenes", "root": None, "name": "rooms", "split": "train", "size": 32, "count": 3, "seed": 0}
SOURCE = {**SCENES, "classes": None, "reading": {}}
COLUMNS = ("source", "image", "place", "level_1", "sampled", "retrieved", "kept")


@cases(80)
@given(settings=st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), VALUES, max_size=4))
def test_a_set_s_file_with_generated_settings_is_read_or_refused(place, settings):
    path = place / "set.yaml"
    path.write_bytes(yaml.safe_dump(settings, allow_unicode=True).encode("utf-8", "replace"))
    before = held(place)
    answered(lambda: read_set(path, called="mine", split="val"), path.read_text(errors="replace"), str(path))
    assert held(place) == before


@cases(80)
@given(
    content=st.binary(max_size=80)
    | st.lists(st.lists(st.text(max_size=6) | st.sampled_from(["../a", "/a", "a\0", '"', "file", "class"]), max_size=4))
    .map(lambda rows: "file,class,split\n" + "\n".join(",".join(row) for row in rows))
    .map(lambda text: text.encode("utf-8", "replace"))
)
def test_a_table_of_classes_of_any_content_is_read_or_refused(place, content):
    path = place / "table.csv"
    path.write_bytes(content)
    answered(lambda: read_table(path), content.decode("utf-8", "replace"), str(path))
    assert path.read_bytes() == content


def manifest(path: Path, about: Any, columns: dict[str, Any], *, honest: bool = True) -> None:
    """A Parquet file with this metadata, and unless it shall lie, with the digest of its columns in it."""
    batch = pa.record_batch({name: pa.array(values) for name, values in columns.items()})
    digest = Digest()
    digest.add(batch)
    if honest and isinstance(about, dict):
        about = {**about, "digest": digest.hex()}
    with pq.ParquetWriter(path, batch.schema) as file:
        file.write_batch(batch)
        file.add_key_value_metadata({KEY.decode(): json.dumps(about)})


def columns(rows: int = 3) -> dict[str, Any]:
    """Those of a good manifest of the rendered rooms, all that are read."""
    keys = [open_set("scenes", size=32, count=3).key(index) for index in range(rows)]
    level = pa.array(np.zeros(rows, np.int32))
    chosen = dict.fromkeys(("sampled", "retrieved", "kept"), [True] * rows)
    return {"source": ["rooms"] * rows, "image": keys, "place": [*range(rows)], "level_1": level, **chosen}


def opened(path: Path) -> list[str]:
    """The keys of what it opens as."""
    found = open_set("manifest", root=path)
    return [found.key(index) for index in range(len(found))]


def test_the_manifest_that_is_changed_below_is_a_good_one(place):
    manifest(place / "good.parquet", {"levels": 1, "sources": {"rooms": SOURCE}}, columns())
    assert len(opened(place / "good.parquet")) == 3


@cases(80)
@given(
    about=st.fixed_dictionaries(
        {
            "levels": st.just(1) | VALUES,
            "sources": st.just({"rooms": SOURCE}) | VALUES | st.just({"rooms": {"kind": "scenes"}}),
        }
    )
    | VALUES,
    changes=st.dictionaries(st.sampled_from([*SOURCE]), VALUES, max_size=2),
)
def test_a_manifest_of_generated_metadata_is_opened_or_refused(place, about, changes):
    path = place / "told.parquet"
    if isinstance(about, dict) and about.get("sources") == {"rooms": SOURCE}:
        about = {**about, "sources": {"rooms": {**SOURCE, **changes}}}
    manifest(path, about, columns())
    before = held(place)
    answered(lambda: opened(path), json.dumps(about, ensure_ascii=False), str(path), *map(str, changes.values()))
    assert held(place) == before


@cases(60)
@given(
    name=st.sampled_from(COLUMNS),
    values=st.sampled_from([None, -1, 2**62, 0, 1.5, "rooms", "halls", True, "../../etc/passwd"]).map(lambda x: [x] * 3)
    | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=3, max_size=3)
    | st.lists(st.text(max_size=5).filter(lambda x: x.isascii()), min_size=3, max_size=3),
)
def test_a_manifest_of_generated_columns_is_opened_or_refused(place, name, values):
    path = place / "columns.parquet"
    manifest(path, {"levels": 1, "sources": {"rooms": SOURCE}}, {**columns(), name: values})
    answered(lambda: opened(path), str(path), *map(str, values))


@cases(60)
@given(at=st.floats(0, 1), length=st.integers(0, 60), between=st.binary(max_size=20))
def test_a_manifest_whose_bytes_are_cut_and_filled_is_opened_as_it_was_or_refused(place, at, length, between):
    path = place / "bytes.parquet"
    manifest(path, {"levels": 1, "sources": {"rooms": SOURCE}}, columns())
    whole, keys = path.read_bytes(), opened(path)
    start = int(at * len(whole))
    path.write_bytes(whole[:start] + between + whole[start + length :])
    found: list[Any] = []
    if answered(lambda: found.append(opened(path)), str(path)).code == 0:
        assert found == [keys]


def test_a_manifest_that_names_itself_as_a_source_is_refused(place):
    path = place / "self.parquet"
    own = {**SOURCE, "kind": "manifest", "root": str(path), "size": None, "count": None}
    manifest(path, {"levels": 1, "sources": {"rooms": own}}, columns())
    assert "leads back to it" in answered(lambda: opened(path), str(path)).said


def test_a_manifest_of_more_rows_than_bytes_is_refused_before_they_are_read(place):
    path, rows = place / "bomb.parquet", 10**6
    batch = pa.record_batch({name: pa.array(np.zeros(rows, np.int32)) for name in COLUMNS})
    with pq.ParquetWriter(path, batch.schema) as file:
        file.write_batch(batch)
        file.add_key_value_metadata({KEY.decode(): json.dumps({"levels": 1, "sources": {}, "digest": ""})})
    assert f"of 1,000,000 rows in {path.stat().st_size:,} bytes" in answered(lambda: opened(path)).said


@pytest.mark.parametrize("levels", [10**9, -1, "1", None, 1.5, [1]])
def test_a_manifest_of_absurd_levels_is_refused(place, levels):
    path = place / "levels.parquet"
    manifest(path, {"levels": levels, "sources": {"rooms": SOURCE}}, columns())
    assert answered(lambda: opened(path), str(path)).code == 2
