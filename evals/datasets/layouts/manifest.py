"""A manifest that `gramlab curate` wrote, as a set: the images that it keeps, their clusters as classes.

A Parquet file of a row for each image of the pool: `source` and `image`, its name there, and `place`, its number;
`level_1` … `level_L`, its clusters; `distance` to the centroid of the first; `sampled`, `retrieved` and `kept`, and
`why` in words; `near` and `cosine`, the image that a near-duplicate repeats, or the seed that a retrieved one is near.
Its metadata holds how the sources are opened, and a digest of all columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any, Required

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from annotated_types import Le
from typing_extensions import TypedDict

from common.bounds import Natural
from common.errors import BadInput, first_line, listing, nearest
from common.records import read_line, record
from common.schema import filled
from common.spread import spread
from evals.datasets.inventory import Inventory
from evals.datasets.labelled_set import LabelledSet, Surfaces, no_surfaces
from evals.datasets.reading import AS_USUAL, Reading
from evals.datasets.subset import Subset

KEY = b"gramlab"  # of the metadata
BLOCK = 1 << 16  # rows that are read together
SPLITS = ("train", "sampled", "retrieved", "dropped", "all")
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


@dataclass(frozen=True)
class Manifest:
    """A manifest that is what was written: its metadata and, of the rows that were asked for, some columns."""

    about: dict[str, Any]
    rows: dict[str, np.ndarray]

    @property
    def levels(self) -> int:
        return int(self.about["levels"])


def read_manifest(path: Path, split: str = "train") -> Manifest:
    """A manifest, with its rows of a split.

    Raises:
        BadInput: no such file, none of ours, or one that was changed since it was written.
    """
    if not path.is_file():
        state = "a folder" if path.is_dir() else "missing"
        raise BadInput(f"got manifest {path} ({state}): want a Parquet file; make it by gramlab curate")
    if split not in SPLITS:
        hint = nearest(split, SPLITS, otherwise="correct split")
        raise BadInput(f"got split '{split}' for {path}: want one of {', '.join(SPLITS)}; {hint}")
    try:
        with pq.ParquetFile(path) as file:
            about: dict[str, Any] = {**read_line((file.metadata.metadata or {})[KEY], About)}
            _refuse_bomb(file.metadata, path)
            wanted = ["source", "image", "place", *(f"level_{n + 1}" for n in range(about["levels"]))]
            digest, parts = Digest(), []
            for batch in file.iter_batches(batch_size=BLOCK):
                _refuse_odd(batch, wanted)
                digest.add(batch)
                mask = pa.array(_chosen(batch, split))
                parts.append({name: batch.column(name).filter(mask).to_numpy(False) for name in wanted})
    except BadInput:
        raise
    except (OSError, pa.ArrowException, KeyError, ValueError, TypeError, AttributeError) as error:
        why = "without what it says of itself" if isinstance(error, KeyError) else f"({first_line(error)})"
        raise BadInput(f"got {path} {why}: want a manifest that gramlab curate wrote; make it again") from error
    if digest.hex() != about.get("digest"):
        do = "make it again, or choose images by the settings of the curation"
        raise BadInput(f"got {path}, which was changed since it was written: want it as it was; {do}")
    return Manifest(about, {name: np.concatenate([part[name] for part in parts]) for name in wanted} if parts else {})


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


def _chosen(batch: pa.RecordBatch, split: str) -> np.ndarray:
    """Which rows belong to a split, bool [rows]."""
    if split == "all":
        return np.ones(len(batch), bool)
    kept = batch.column("kept").to_numpy(False)
    return ~kept if split == "dropped" else kept if split == "train" else batch.column(split).to_numpy(False)


class ManifestSet:
    """The images of a manifest: `split` is `train` (those that are kept), `sampled`, `retrieved`, `dropped` or `all`.

    Classes are clusters of the top level, or of the one that `classes` names (`[level_1]`; `[]` for none), called by
    the way to them from the top, as 3.17.
    """

    segments, has_depth, has_surfaces = (), False, False

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        opened: Callable[..., LabelledSet],
        name: str | None = None,
        count: int | None = None,
        classes: Sequence[str] | None = None,
        reading: Reading = AS_USUAL,
        cache: Path | None = None,
    ) -> None:
        if given := reading.given():
            want = "want none, its images are read as the sources of the curation are"
            raise BadInput(f"got {given[0][0]} for manifest {root}: {want}; leave {given[0][0]} out")
        self.root, self.split, self.name = root, split, name or root.resolve().parent.name
        manifest = read_manifest(root, split)
        found = len(manifest.rows["place"])
        if not found:
            raise BadInput(f"got no image for split '{split}' in {root}: want one at least; correct split")
        rows = {key: column[spread(range(found), count)] for key, column in manifest.rows.items()}
        self._listed = found
        opened = partial(opened, cache=cache)
        self._sources = {key: _opened(key, one, opened, root) for key, one in manifest.about["sources"].items()}
        self._names = rows["source"].tolist()
        self._places = _places(self._sources, rows, root)
        self.classes, self._labels = _classes(rows, _level(classes, manifest.levels, root), manifest.levels)

    def __len__(self) -> int:
        return len(self._names)

    def key(self, index: int) -> str:
        return f"{self._names[index]}/{self._sources[self._names[index]].key(self._places[index])}"

    def image(self, index: int) -> np.ndarray:
        return self._sources[self._names[index]].image(self._places[index])

    def label(self, index: int) -> int:
        if not self.classes:
            raise BadInput(f"got set '{self.name}' without image classes: want its clusters; leave classes out")
        return int(self._labels[index])

    def mask(self, index: int) -> np.ndarray:
        raise BadInput(f"got set '{self.name}' without masks: want kind ade20k, nyu or scenes; correct kind")

    def depth(self, index: int) -> np.ndarray:
        raise BadInput(f"got set '{self.name}' without depth: want kind nyu or scenes; correct kind")

    def surfaces(self, index: int) -> Surfaces:
        raise no_surfaces(self.name)

    def found(self) -> Inventory:
        return Inventory(len(self), self._listed, len(self.classes))

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return self._hashed(lambda part: part.fingerprint())

    def stamp(self) -> str:
        return self._hashed(lambda part: part.stamp())

    def _hashed(self, of: Callable[[Subset], str]) -> str:
        """Over the images in their order, and their classes."""
        parts = [[key, of(Subset(one, self._of(key)))] for key, one in self._sources.items() if self._of(key)]
        told = json.dumps([parts, self._names, self.classes, list(map(int, self._labels))])
        return hashlib.sha256(told.encode()).hexdigest()

    def _of(self, source: str) -> list[int]:
        return [place for name, place in zip(self._names, self._places, strict=True) if name == source]


def _opened(name: str, one: Mapping[str, Any], opened: Callable[..., LabelledSet], root: Path) -> LabelledSet:
    try:
        return opened(**{**one, "reading": filled(Reading, one["reading"], where="reading")})
    except BadInput as error:
        raise BadInput(f"source {name} of manifest {root}: {error}") from error
    except RecursionError as error:
        raise BadInput(f"source {name} of manifest {root} leads back to it: want images; curate again") from error


def _places(sources: Mapping[str, LabelledSet], rows: Mapping[str, np.ndarray], root: Path) -> list[int]:
    """Where the images are in their sources, also where others came or went."""
    places, moved, lost = rows["place"].tolist(), dict[str, dict[str, int]](), []
    for row, (name, key) in enumerate(zip(rows["source"].tolist(), rows["image"].tolist(), strict=True)):
        if (one := sources.get(name)) is None:
            raise BadInput(f"got source {name!r} in {root}, which does not say how it is opened; curate again")
        if places[row] < len(one) and one.key(places[row]) == key:
            continue
        if name not in moved:
            moved[name] = {one.key(place): place for place in range(len(one))}
        places[row] = moved[name].get(key, -1)
        lost += [f"{name}/{key}"] if places[row] < 0 else []
    if lost:
        got = f"got {len(lost):,} of {len(places):,} images of {root} that are gone ({listing(lost)})"
        raise BadInput(f"{got}: want them where they were; put them back, or curate again")
    return places


def _level(classes: Sequence[str] | None, levels: int, root: Path) -> int | None:
    """The level whose clusters are the classes."""
    known = [f"level_{number + 1}" for number in range(levels)]
    if classes is None:
        return levels
    if len(classes) > 1 or any(name not in known for name in classes):
        raise BadInput(f"got classes {list(classes)} for {root}: want one of {', '.join(known)}; correct classes")
    return known.index(classes[0]) + 1 if classes else None


def _classes(rows: Mapping[str, np.ndarray], level: int | None, levels: int) -> tuple[tuple[str, ...], np.ndarray]:
    """The names of the clusters of a level that have images, and the one of each image."""
    if level is None:
        return (), np.empty(0, int)
    ways = np.stack([rows[f"level_{number}"] for number in range(levels, level - 1, -1)], 1)
    known, labels = np.unique(ways, axis=0, return_inverse=True)
    return tuple(".".join(map(str, way)) for way in known.tolist()), labels.reshape(-1)
