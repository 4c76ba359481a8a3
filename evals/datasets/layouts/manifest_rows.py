"""The rows of a manifest as a few bytes each: read and checked once in blocks, kept in the cache, mapped from there.

Of a row 14 bytes are kept: the number of its source, its place there, and its class. The file that they were read from
and the sources are known by their stamps; where one of them has changed, the rows are read and checked anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Required

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from annotated_types import Le
from typing_extensions import TypedDict

from common.bounded import used
from common.bounds import Natural
from common.disk import json_object, whole
from common.errors import BadInput, first_line, listing
from common.records import read_line, record
from common.unwritable import in_cache
from evals.datasets.labelled_set import LabelledSet

KEY = b"gramlab"  # of the metadata
BLOCK = 1 << 16  # rows that are read together
VERSION = 1  # raise when what is kept means something else
FILES = {"source": np.uint16, "place": np.int64, "label": np.int32}
SHOWN = 3  # images that are gone
MOST_LEVELS = 64
TYPES = {
    "source": pa.string(),
    "image": pa.string(),
    "place": pa.int64(),
}  # of the columns that are read; int32 of all else


@record
class Source(TypedDict, total=False):
    """How a source is opened: what `open_set` takes, with what a `Reading` is made of."""

    kind: Required[str]
    root: str | None
    name: str
    split: str
    size: Natural | None
    count: Natural | None
    seed: Natural
    classes: list[str] | None
    reading: Required[dict[str, Any]]


@record
class About(TypedDict):
    """The metadata that a manifest is read by; it holds more."""

    levels: Annotated[Natural, Le(MOST_LEVELS)]
    sources: dict[str, Source]
    digest: str


class Digest:
    """A hash of a table's columns that does not depend on how its rows are grouped."""

    def __init__(self) -> None:
        self._columns: dict[str, Any] = {}

    def add(self, batch: pa.RecordBatch) -> None:
        """The next rows."""
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            hashed = self._columns.setdefault(name, hashlib.sha256(f"{name} {column.type}".encode()))
            hashed.update(json.dumps(column.to_pylist()).encode()[1:-1] + b", ")

    def hex(self) -> str:
        """Of all rows so far."""
        return hashlib.sha256(repr([one.hexdigest() for one in self._columns.values()]).encode()).hexdigest()


def read_about(path: Path) -> dict[str, Any]:
    """What a manifest's metadata says, its rows unread. Raises `BadInput` for no such file, or none of ours."""
    if not path.is_file():
        state = "a folder" if path.is_dir() else "missing"
        raise BadInput(f"got manifest {path} ({state}): want a Parquet file; make it by gramlab curate")
    try:
        with pq.ParquetFile(path) as file:
            about: dict[str, Any] = {**read_line((file.metadata.metadata or {})[KEY], About)}
            _refuse_bomb(file.metadata, path)
            return about
    except BadInput:
        raise
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError, AttributeError) as error:
        raise _none_of_ours(path, error) from error


def blocks(path: Path, about: Mapping[str, Any]) -> Iterator[pa.RecordBatch]:
    """All rows of a manifest. Raises `BadInput` after the last one where they are not what was written."""
    digest = Digest()
    wanted = ["source", "image", "place", *(f"level_{number + 1}" for number in range(about["levels"]))]
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BLOCK):
                _refuse_odd(batch, wanted)
                digest.add(batch)
                yield batch
    except BadInput:
        raise
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError, AttributeError) as error:
        raise _none_of_ours(path, error) from error
    if digest.hex() != about.get("digest"):
        do = "make it again, or choose images by the settings of the curation"
        raise BadInput(f"got {path}, which was changed since it was written: want it as it was; {do}")


def _none_of_ours(path: Path, error: Exception) -> BadInput:
    why = "without what it says of itself" if isinstance(error, KeyError) else f"({first_line(error)})"
    return BadInput(f"got {path} {why}: want a manifest that gramlab curate wrote; make it again")


def _refuse_bomb(told: pq.FileMetaData, path: Path) -> None:
    """A row holds a number of its own, so a file of fewer bytes than rows was made to fill the memory."""
    if told.num_rows > (size := path.stat().st_size):
        got = f"got {path} of {told.num_rows:,} rows in {size:,} bytes"
        raise BadInput(f"{got}: want a manifest that gramlab curate wrote; make it again")


def _refuse_odd(batch: pa.RecordBatch, wanted: Sequence[str]) -> None:
    """Raises ValueError for columns of another type, for gaps in them and for places before the first."""
    for name in wanted:
        column, kind = batch.column(name), TYPES.get(name, pa.int32())
        if column.type != kind or column.null_count:
            raise ValueError(f"{name} of {column.type} with {column.null_count} gaps: want {kind} without any")
    if len(batch) and batch.column("place").to_numpy().min() < 0:
        raise ValueError("a place below 0")


@dataclass(frozen=True)
class Rows:
    """The rows of a split: which source, uint16 [n], the place there, int64 [n], the class, int32 [n] or [0], and the
    names of the classes."""

    source: np.ndarray
    place: np.ndarray
    label: np.ndarray
    classes: tuple[str, ...]

    def of(self, rows: Sequence[int]) -> Rows:
        """Some of them."""
        some = np.asarray(rows, np.int64)
        label = self.label[some] if len(self.label) else self.label
        return self.named(Rows(self.source[some], self.place[some], label, self.classes))

    @staticmethod
    def named(rows: Rows) -> Rows:
        """Without the classes that no row has, the others numbered through."""
        if not len(rows.label):
            return rows
        known = np.unique(rows.label)
        label = np.searchsorted(known, rows.label).astype(np.int32)
        return Rows(rows.source, rows.place, label, tuple(rows.classes[number] for number in known.tolist()))


def rows_of(
    path: Path,
    about: Mapping[str, Any],
    sources: Mapping[str, LabelledSet],
    *,
    chosen: Callable[[pa.RecordBatch], np.ndarray],
    split: str,
    level: int | None,
    cache: Path | None,
) -> Rows:
    """The rows of a split, which `chosen` chooses of a block, their clusters on a level as classes.

    Raises:
        BadInput: a manifest that was changed since it was written, and images that its sources have no more.
    """
    kept = None
    state = path.stat()
    card = {
        "version": VERSION, "file": [state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino],
        "digest": about.get("digest"), "sources": {name: one.stamp() for name, one in sources.items()},
    }  # fmt: skip
    if cache is not None:
        named = f"{path.resolve()} {split} {level}"
        kept = cache / "manifests" / hashlib.sha256(named.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        used(cache, kept)
        if (found := _kept(kept, card)) is not None:
            return found
    rows = _read(path, about, sources, chosen, level)
    if kept is None:
        return rows
    with in_cache(), whole(kept) as new:
        new.mkdir()
        for name, kind in FILES.items():
            np.save(new / f"{name}.npy", getattr(rows, name).astype(kind))
        (new / "card.json").write_text(json.dumps({**card, "classes": rows.classes}), encoding="utf-8")
    del rows
    return _kept(kept, card) or _read(path, about, sources, chosen, level)


def _kept(folder: Path, card: Mapping[str, Any]) -> Rows | None:
    """What the cache holds of the same file and sources, mapped into memory; None where it is damaged or of others."""
    try:
        told = json_object((folder / "card.json").read_bytes())
        classes = tuple(map(str, told.pop("classes")))
        if told != card:
            return None
        found = [np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in FILES]
        whole = all(one.dtype == kind for one, kind in zip(found, FILES.values(), strict=True))
        if not whole or len(found[0]) != len(found[1]) or len(found[2]) not in (0, len(found[0])):
            return None
        return Rows(found[0], found[1], found[2], classes)
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        return None


def _read(
    path: Path,
    about: Mapping[str, Any],
    sources: Mapping[str, LabelledSet],
    chosen: Callable[[pa.RecordBatch], np.ndarray],
    level: int | None,
) -> Rows:
    """All blocks, of each row a few bytes. Classes are numbered as they turn up, and put in order at the end."""
    levels, names = int(about["levels"]), list(sources)
    numbers, found = dict[tuple[int, ...], int](), list[tuple[np.ndarray, ...]]()
    place_of, lost, count = _Places(sources), list[str](), 0
    for batch in blocks(path, about):
        try:
            batch = batch.filter(pa.array(chosen(batch)))
        except (pa.ArrowException, KeyError, ValueError, TypeError, AttributeError) as error:
            raise _none_of_ours(path, error) from error
        source = _numbered(batch.column("source").to_pylist(), names, path)
        images, places = batch.column("image").to_pylist(), batch.column("place").to_pylist()
        place = place_of(source, images, places)
        lost += [f"{names[source[row]]}/{images[row]}" for row in np.flatnonzero(place < 0)]
        label = np.empty(0, np.int32)
        if level is not None and len(batch):
            ways = np.stack([batch.column(f"level_{n}").to_numpy(False) for n in range(levels, level - 1, -1)], 1)
            own, inverse = np.unique(ways, axis=0, return_inverse=True)
            given = [numbers.setdefault(way, len(numbers)) for way in map(tuple, own.tolist())]
            label = np.array(given, np.int32)[inverse.reshape(-1)]
        found.append((source, place, label))
        count += len(batch)
    if lost:
        got = f"got {len(lost):,} of {count:,} images of {path} that are gone ({listing(lost, most=SHOWN)})"
        raise BadInput(f"{got}: want them where they were; put them back, or curate again")
    source, place, label = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else _nothing()
    order = sorted(numbers)
    rank = np.empty(len(order), np.int32)
    rank[[numbers[way] for way in order]] = np.arange(len(order))
    return Rows(source, place, rank[label] if len(order) else label, tuple(".".join(map(str, way)) for way in order))


def _numbered(source: list[str], names: list[str], path: Path) -> np.ndarray:
    """The numbers of sources. Raises `BadInput` for one of which the metadata says nothing."""
    known = {name: number for number, name in enumerate(names)}
    if (unknown := next((name for name in source if name not in known), None)) is not None:
        raise BadInput(f"got source {unknown!r} in {path}, which does not say how it is opened; curate again")
    return np.array([known[name] for name in source], np.uint16)


def _nothing() -> tuple[np.ndarray, ...]:
    return tuple(np.empty(0, kind) for kind in FILES.values())


class _Places:
    """Where images are in their sources, also where others came or went; -1 for one that is gone."""

    def __init__(self, sources: Mapping[str, LabelledSet]) -> None:
        self._sources = list(sources.values())
        self._moved: dict[int, dict[str, int]] = {}

    def __call__(self, source: np.ndarray, images: Iterable[str], places: Iterable[int]) -> np.ndarray:
        return np.fromiter(map(self._one, source.tolist(), images, places), np.int64, len(source))

    def _one(self, source: int, image: str, place: int) -> int:
        one = self._sources[source]
        if 0 <= place < len(one) and one.key(place) == image:
            return place
        if source not in self._moved:
            self._moved[source] = {one.key(at): at for at in range(len(one))}
        return self._moved[source].get(image, -1)
