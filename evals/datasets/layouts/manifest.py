"""A manifest that `gramlab curate` wrote, as a set: the images that it keeps, their clusters as classes.

A Parquet file of a row for each image of the pool: `source` and `image`, its name there, and `place`, its number;
`level_1` … `level_L`, its clusters; `distance` to the centroid of the first; `sampled`, `retrieved` and `kept`, and
`why` in words; `near` and `cosine`, the image that a near-duplicate repeats, or the seed that a retrieved one is near.
Its metadata holds how the sources are opened, and a digest of all columns.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from common.errors import BadInput, nearest
from common.schema import filled
from common.spread import spread
from evals.datasets.inventory import Inventory
from evals.datasets.labelled_set import ImagesAlone, LabelledSet
from evals.datasets.layouts.manifest_rows import BLOCK, blocks, read_about, rows_of
from evals.datasets.reading import AS_USUAL, Reading

SPLITS = ("train", "sampled", "retrieved", "dropped", "all")


def verified(path: Path) -> dict[str, Any]:
    """What a manifest says of itself, all of its rows held against it.

    Raises:
        BadInput: no such file, none of ours, or one that was changed since it was written.
    """
    about = read_about(path)
    for _ in blocks(path, about):
        pass
    return about


def _chosen(batch: pa.RecordBatch, split: str) -> np.ndarray:
    """Which rows belong to a split, bool [rows]."""
    if split == "all":
        return np.ones(len(batch), bool)
    kept = batch.column("kept").to_numpy(False)
    return ~kept if split == "dropped" else kept if split == "train" else batch.column(split).to_numpy(False)


class ManifestSet(ImagesAlone):
    """The images of a manifest: `split` is `train` (those that are kept), `sampled`, `retrieved`, `dropped` or `all`.

    Classes are clusters of the top level, or of the one that `classes` names (`[level_1]`; `[]` for none), called by
    the way to them from the top, as 3.17.
    """

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
        about = read_about(root)
        if split not in SPLITS:
            hint = nearest(split, SPLITS, otherwise="correct split")
            raise BadInput(f"got split '{split}' for {root}: want one of {', '.join(SPLITS)}; {hint}")
        opened, level = partial(opened, cache=cache), _level(classes, int(about["levels"]), root)
        self._sources = {key: _opened(key, one, opened, root) for key, one in about["sources"].items()}
        self._titles, self._sets = list(self._sources), list(self._sources.values())
        chosen = partial(_chosen, split=split)
        rows = rows_of(root, about, self._sources, chosen=chosen, split=split, level=level, cache=cache)
        self._listed = len(rows.place)
        if not self._listed:
            raise BadInput(f"got no image for split '{split}' in {root}: want one at least; correct split")
        if count is not None and count < self._listed:
            rows = rows.of(spread(range(self._listed), count))
        self._rows, self.classes = rows, rows.classes

    def __len__(self) -> int:
        return len(self._rows.place)

    def key(self, index: int) -> str:
        source = self._rows.source[index]
        return f"{self._titles[source]}/{self._sets[source].key(int(self._rows.place[index]))}"

    def image(self, index: int) -> np.ndarray:
        return self._sets[self._rows.source[index]].image(int(self._rows.place[index]))

    def label(self, index: int) -> int:
        return int(self.labels[index])

    @property
    def labels(self) -> np.ndarray:
        """The class of every image, int32 [n]."""
        if not self.classes:
            raise BadInput(f"got set '{self.name}' without image classes: want its clusters; leave classes out")
        return self._rows.label

    def found(self) -> Inventory:
        return Inventory(len(self), self._listed, len(self.classes))

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return self._hashed(lambda part: part.fingerprint())

    def stamp(self) -> str:
        return self._hashed(lambda part: part.stamp())

    def _hashed(self, of: Callable[[LabelledSet], str]) -> str:
        """Over the images in their order, and their classes; the text that is hashed is made in blocks."""
        parts = []
        for number, (name, one) in enumerate(self._sources.items()):
            if (self._rows.source == number).any():
                own = hashlib.sha256(f"{of(one)} (".encode())
                for text in _joined(self._places_of(number), lone=","):
                    own.update(text.encode())
                own.update(b")")
                parts.append([name, own.hexdigest()])
        total = hashlib.sha256(f"[{json.dumps(parts)}, [".encode())
        titles = [json.dumps(title) for title in self._titles]
        for text in _joined([titles[one] for one in block.tolist()] for block in _blocks(self._rows.source)):
            total.update(text.encode())
        total.update(f"], {json.dumps(self.classes)}, [".encode())
        for text in _joined(map(str, block.tolist()) for block in _blocks(self._rows.label)):
            total.update(text.encode())
        total.update(b"]]")
        return total.hexdigest()

    def _places_of(self, source: int) -> Iterator[Iterator[str]]:
        """The places of the images of a source, as text."""
        for sources, places in zip(_blocks(self._rows.source), _blocks(self._rows.place), strict=True):
            yield map(str, places[sources == source].tolist())


def _blocks(column: np.ndarray) -> Iterator[np.ndarray]:
    return (column[start : start + BLOCK] for start in range(0, len(column), BLOCK))


def _joined(blocks: Iterable[Iterable[str]], *, lone: str = "") -> Iterator[str]:
    """All items with commas between, block by block, as Python writes lists; `lone` follows a single one."""
    count = 0
    for block in map(list, blocks):
        if block:
            yield (", " if count else "") + ", ".join(block)
        count += len(block)
    if count == 1:
        yield lone


def _opened(name: str, one: Mapping[str, Any], opened: Callable[..., LabelledSet], root: Path) -> LabelledSet:
    try:
        return opened(**{**one, "reading": filled(Reading, one["reading"], where="reading")})
    except BadInput as error:
        raise BadInput(f"source {name} of manifest {root}: {error}") from error
    except RecursionError as error:
        raise BadInput(f"source {name} of manifest {root} leads back to it: want images; curate again") from error


def _level(classes: Sequence[str] | None, levels: int, root: Path) -> int | None:
    """The level whose clusters are the classes."""
    known = [f"level_{number + 1}" for number in range(levels)]
    if classes is None:
        return levels
    if len(classes) > 1 or any(name not in known for name in classes):
        raise BadInput(f"got classes {list(classes)} for {root}: want one of {', '.join(known)}; correct classes")
    return known.index(classes[0]) + 1 if classes else None
