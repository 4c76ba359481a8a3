"""Images in shards: tar files as WebDataset writes them, read by byte ranges from a disk or a remote store.

Any image can be drawn by its number, in any order, so training draws from shards what it would draw from a folder, and
goes on exactly where it was cut off.
"""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import IO, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from common.command import number_of
from common.errors import BadInput, listing, nearest
from common.progress import Bar
from common.spread import spread
from evals.datasets.decoding.image_file import read_rgb
from evals.datasets.decoding.look import LOOKED, look
from evals.datasets.inventory import Inventory
from evals.datasets.labelled_set import ImagesAlone
from evals.datasets.layouts.shards.index import BLOCK, indexed, told_alone
from evals.datasets.layouts.shards.places import Shard, ShardFault, shards_of
from evals.datasets.reading import AS_USUAL, OF_DEPTH, OF_MASKS, Reading


class Member:
    """One file in a shard, for decoders, which open it or read all of it and name it in what they say."""

    def __init__(self, shard: Shard, name: str, at: int, size: int, header: int) -> None:
        self.shard, self.inside, self.at, self.size, self.header = shard, name, at, size, header

    def __str__(self) -> str:
        return f"{self.shard.url}/{self.inside}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.inside).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.inside).suffix

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Its bytes as a file."""
        return io.BytesIO(self.read_bytes())

    def read_bytes(self) -> bytes:
        """Its bytes, read anew. Raises ShardFault, as of one that is not what was indexed; OSError as a disk does."""
        content = self.shard.read(self.at - BLOCK, BLOCK + self.size)
        if len(content) < BLOCK + self.size or zlib.crc32(content[:BLOCK]) != self.header:
            got = f"got other bytes in {self.shard.url} where {self.inside} was when the shard was indexed"
            raise ShardFault(
                f"{got}: want shards that nobody writes to; put it back, or begin another run with the new one"
            )
        return content[BLOCK:]


class ShardSet(ImagesAlone):
    """The images of shards, in the order of shards and of the images in them; `root` is a pattern or a folder.

    Image classes are the texts of .cls files, where every image has one: in order of their numbers, or else of their
    names. `classes` chooses some and their order, `[]` none. Other files of a sample are passed over.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = "train",
        *,
        name: str | None = None,
        count: int | None = None,
        classes: Sequence[str] | None = None,
        reading: Reading = AS_USUAL,
        cache: Path | None = None,
    ) -> None:
        _refuse_idle(reading, root)
        self.root, self.split, self.reading = str(root), split, reading
        self.name = name or PurePosixPath(self.root).name
        self._shards = shards_of(self.root, split)
        if self._shards[0].is_remote:
            self._shards[0].read(0, 1)  # a server that gives no ranges is told now
        with Bar(self._shards, desc="indexing", unit="shard", lines=False) as bar:
            self._indices = [indexed(shard, cache) for shard in bar]
        self._ends = np.cumsum([len(index.rows) for index in self._indices])
        if not self._ends[-1]:
            raise BadInput(f"got no image in {self.root}: want members such as 0001.jpg; correct root or split")
        self.classes, self._labels, self._chosen = self._classified(classes)
        total = int(self._ends[-1]) if self._chosen is None else len(self._chosen)
        self._listed = total
        if count is not None and count < total:
            places = np.array(spread(range(total), count))
            self._chosen = places if self._chosen is None else self._chosen[places]
        looked = [at for at in spread(range(len(self)), LOOKED) if self.key(at) not in reading.exclude]
        self.look = look([self._path(at) for at in looked], reading, name=self.name)

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._chosen is None else len(self._chosen)

    def key(self, index: int) -> str:
        shard, row = self._located(index)
        return f"{self._shards[shard].name}/{self._indices[shard].rows['image'][row].as_py()}"

    def image(self, index: int) -> np.ndarray:
        scale = self.look.scale
        return read_rgb(self._path(index), self.reading, shallow=None if scale else self.name, looked=scale)

    def label(self, index: int) -> int:
        return int(self.labels[index])

    @cached_property
    def labels(self) -> np.ndarray:
        """The class of every image, int32 [n]."""
        if not self.classes:
            raise BadInput(
                f"got set '{self.name}' without image classes: want a .cls beside each image; use another set"
            )
        return self._labels if self._chosen is None else self._labels[self._chosen]

    def found(self) -> Inventory:
        anew = [shard.name for shard, index in zip(self._shards, self._indices, strict=True) if index.anew]
        changed = f"{len(anew):,} changed since indexed before, so indexed anew ({listing(anew)})" if anew else ""
        remarks = (number_of(len(self._shards), "shard"), *filter(None, [changed, str(self.look)]))
        return Inventory(len(self), self._listed, len(self.classes), skipped=told_alone(self._indices), remarks=remarks)

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        """Over the names of shards, the names, sizes and classes of what is in them, and which of these are taken."""
        held = [[shard.name, index.digest] for shard, index in zip(self._shards, self._indices, strict=True)]
        taken = None if self._chosen is None else hashlib.sha256(self._chosen.astype("<i8").tobytes()).hexdigest()
        told = json.dumps([held, taken, self.classes, list(map(repr, self.reading.changed()))])
        return hashlib.sha256(told.encode()).hexdigest()

    def stamp(self) -> str:
        told = json.dumps([self._fingerprint, [shard.state() for shard in self._shards]])
        return hashlib.sha256(told.encode()).hexdigest()

    def _whole(self, index: int) -> int:
        """The number of an image among all that lie in the shards."""
        if not 0 <= index < len(self):
            raise IndexError(f"image {index} of {len(self)}")
        return int(index) if self._chosen is None else int(self._chosen[index])

    def _located(self, index: int) -> tuple[int, int]:
        """The shard that an image lies in, and its row there."""
        whole = self._whole(index)
        shard = int(np.searchsorted(self._ends, whole, side="right"))
        return shard, whole - (int(self._ends[shard - 1]) if shard else 0)

    def _path(self, index: int) -> Path:
        """The member, as decoders take files."""
        shard, row = self._located(index)
        rows = self._indices[shard].rows
        name, at, size, header = (rows[key][row].as_py() for key in ("image", "at", "size", "header"))
        return cast(Path, Member(self._shards[shard], name, at, size, header))

    def _classified(self, wanted: Sequence[str] | None) -> tuple[tuple[str, ...], np.ndarray, np.ndarray | None]:
        """The names of the classes, the class of every image, -1 for others, and which images are of them."""
        column = pa.chunked_array(
            [chunk for index in self._indices for chunk in index.rows["label"].chunks], pa.string()
        )
        if column.null_count == len(column) or (wanted is not None and not wanted):
            if wanted:
                raise BadInput(
                    f"got classes for {self.root}, which has no .cls: want one beside each image; leave it out"
                )
            return (), np.empty(0, np.int32), None
        if column.null_count:
            got = f"got {len(column) - column.null_count:,} of {len(column):,} images of {self.root} with a .cls"
            raise BadInput(f"{got}: want all or none; write the others, or set classes: []")
        present = sorted(column.unique().to_pylist(), key=lambda text: (not text.isdecimal(), text.zfill(20), text))
        for name in wanted or ():
            if name not in present:
                hint = nearest(name, present, otherwise="correct classes")
                raise BadInput(f"got class '{name}' for {self.root}: want one of {', '.join(present)}; {hint}")
        names = tuple(present if wanted is None else wanted)
        found = pc.call_function("index_in", [column], pc.SetLookupOptions(pa.array(names))).to_numpy()
        labels = np.nan_to_num(found, nan=-1).astype(np.int32)
        return names, labels, None if wanted is None else np.flatnonzero(labels >= 0)


def _refuse_idle(reading: Reading, root: object) -> None:
    """Refuse settings of masks and depth, of which shards have none."""
    for key, _ in reading.changed():
        if key in (*OF_MASKS, *OF_DEPTH):
            raise BadInput(f"got {key} for {root}: want none, shards are read for their images; leave {key} out")
