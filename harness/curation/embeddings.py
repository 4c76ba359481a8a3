"""Embeddings of a pool by a backbone, in shards on disk: each is whole or not there, so that a killed command goes on.

Rows have length one and are rounded to a grid of 2⁻²⁴ (`evals.fitting.nearest.unit_rows`): sums of up to 2²⁹ of them
in float64 lose nothing, so that a centroid is the same to the bit in whatever order, blocks or processes it is summed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from common.disk import read_json, whole, write_json
from common.errors import BadInput
from common.progress import Bar
from common.ranks import Ranks
from common.workers import batches
from evals.backbones.backbone import Backbone
from evals.features import frozen
from evals.features.matrix import BYTES, DiskRows
from evals.features.view import Precision, View, prepare, refuse_uneven
from evals.fitting.nearest import unit_rows
from harness.config import identity
from harness.data.pool import Pool, fingerprint

CARD = "card.json"
SHARD = 4096  # images: a minute of work or so that a killed command loses
NAMES = {"pool": "pool", "backbone": "backbone", "size": "size", "precision": "precision", "images": "number of images"}


@dataclass(frozen=True)
class Embeddings:
    """A float32 matrix [n D] (`evals.features.matrix.Rows`) in files of `shard` rows."""

    folder: Path
    shape: tuple[int, int]
    address: str
    shard: int = SHARD

    def __len__(self) -> int:
        return self.shape[0]

    def path(self, number: int) -> Path:
        """Where a shard lies."""
        return self.folder / f"{number:06d}.f32"

    def rows_of(self, number: int) -> int:
        """How many rows a shard has."""
        return min(self.shard, len(self) - number * self.shard)

    @property
    def shards(self) -> int:
        return -(-len(self) // self.shard)

    def has(self, number: int) -> bool:
        """Whether a shard is there, whole."""
        path = self.path(number)
        return path.is_file() and path.stat().st_size == self.rows_of(number) * self.shape[1] * BYTES

    def write(self, number: int, rows: Float[Tensor, "r D"]) -> None:
        """Keep a shard; its rows are brought to length one and onto the grid."""
        with whole(self.path(number)) as new:
            new.write_bytes(unit_rows(rows.float()).cpu().numpy().astype("<f4").tobytes())

    def __getitem__(self, which: slice | Tensor | np.ndarray) -> Float[Tensor, "r D"]:
        if isinstance(which, slice):
            start, stop, _ = which.indices(len(self))
            parts = [
                self._read(number, slice(max(start - number * self.shard, 0), stop - number * self.shard))
                for number in range(start // self.shard, -(-stop // self.shard))
            ]
            return torch.cat(parts) if parts else torch.empty(0, self.shape[1])
        chosen = np.asarray(which)
        found = torch.empty(len(chosen), self.shape[1])
        for number in np.unique(chosen // self.shard).tolist():
            mine = np.flatnonzero(chosen // self.shard == number)
            found[mine] = self._read(number, chosen[mine] - number * self.shard)
        return found

    def _read(self, number: int, which: slice | np.ndarray) -> Tensor:
        return DiskRows(self.path(number), (self.rows_of(number), self.shape[1]))[which]


def embed(
    pool: Pool,
    backbone: Backbone,
    *,
    size: int,
    precision: Precision,
    home: Path,
    given: Path | None,
    ranks: Ranks,
    batch_size: int = 64,
    workers: int = 0,
) -> Embeddings:
    """The pooled features of every image, those shards computed that are not there.

    Args:
        home: below it they lie in a folder of their own address.
        given: a folder to take them from, or to put them into, in its place.

    Raises:
        BadInput: a size that the patches do not divide, an unreadable image, a given folder of other embeddings.
    """
    refuse_uneven(f"size={size} for {backbone.name}", size, backbone.stride)
    card, address, folder = _place(pool, backbone, size, precision, home, given)
    view = View("crop", size)
    width = ranks.agreed(_card(folder, card, backbone, lambda: _width(pool, backbone, view, precision), ranks))
    found = Embeddings(folder, (len(pool), width), address)
    missing = [number for number in ranks.own(found.shards) if not found.has(number)]
    with Bar(total=len(pool), desc=f"embeddings by {backbone.name}", unit="image") as bar:
        bar.update(sum(found.rows_of(number) for number in range(found.shards) if number not in missing))
        for number in missing:
            first = number * found.shard
            images = _features(pool, backbone, view, range(first, first + found.rows_of(number)), batch_size, workers,
                               precision, bar.update)  # fmt: skip
            found.write(number, torch.cat(list(images)))
    ranks.wait()
    return found


def whole_shards(
    pool: Pool, backbone: Backbone, *, size: int, precision: Precision, home: Path, given: Path | None
) -> tuple[Path, int]:
    """The folder that `embed` takes, and of how many images it holds embeddings. Raises `BadInput` as that does."""
    card, address, folder = _place(pool, backbone, size, precision, home, given)
    if (width := _held(folder, card, backbone)) is None:
        return folder, 0
    found = Embeddings(folder, (len(pool), width), address)
    return folder, sum(found.rows_of(number) for number in range(found.shards) if found.has(number))


def _place(
    pool: Pool, backbone: Backbone, size: int, precision: Precision, home: Path, given: Path | None
) -> tuple[dict[str, Any], str, Path]:
    """What the embeddings depend on, its hash, and their folder."""
    card = {"pool": fingerprint(pool), "backbone": backbone.fingerprint, "size": size, "precision": precision}
    card |= {"images": len(pool)}
    address = identity("embeddings", card)
    return card, address, given or home / f"embeddings-{address}"


def _card(folder: Path, card: dict[str, Any], backbone: Backbone, width: Callable[[], int], ranks: Ranks) -> int:
    """The width of the embeddings in a folder, whose card must be this one; it is written where there is none."""
    if (held := _held(folder, card, backbone)) is not None:
        return held
    found = width()
    ranks.wait()  # one that is late would find a folder half begun
    if ranks.first:
        write_json(folder / CARD, {**card, "name": backbone.name, "width": found})
    return found


def _held(folder: Path, card: dict[str, Any], backbone: Backbone) -> int | None:
    """The width that the card in a folder tells; None where the folder is empty or not there."""
    path = folder / CARD
    if path.exists():
        held = read_json(path, remedy="move the folder away, and its embeddings are made again")
        for key, what in NAMES.items():
            if held.get(key) != card[key]:
                of = f"{held.get('name')}" if key == "backbone" else f"{what} {held.get(key)}"
                mine = backbone.name if key == "backbone" else f"{what} {card[key]}"
                do = "name the folder that belongs to it by embeddings=..., or leave it out"
                raise BadInput(f"got embeddings of {of} in {folder}: want those of {mine}; {do}")
        return int(held["width"])
    if folder.exists() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise BadInput(f"got {folder} without {CARD}: want a folder of embeddings, or an empty one; correct embeddings")
    return None


def _width(pool: Pool, backbone: Backbone, view: View, precision: Precision) -> int:
    return next(_features(pool, backbone, view, range(1), 1, 0, precision, lambda _: None)).shape[1]


def _features(
    pool: Pool,
    backbone: Backbone,
    view: View,
    which: range,
    batch_size: int,
    workers: int,
    precision: Precision,
    tell: Callable[[int], object],
) -> Iterator[Float[Tensor, "b D"]]:
    """The pooled features of some images of the pool, a batch at a time, on the CPU."""
    shown = batches(
        lambda index: prepare(pool.image(index), view, stride=backbone.stride),
        which.stop,
        first=which.start,
        workers=workers,
    )
    while batch := list(islice(shown, batch_size)):
        images = torch.from_numpy(np.stack(batch))
        yield frozen.features(backbone, images, precision=precision).pooled.cpu()
        tell(len(batch))


def embed_few(pool: Pool, backbone: Backbone, *, size: int, precision: Precision) -> Float[Tensor, "q D"]:
    """The embeddings of a small pool, in memory."""
    parts = _features(pool, backbone, View("crop", size), range(len(pool)), 64, 0, precision, lambda _: None)
    return unit_rows(torch.cat(list(parts)))
