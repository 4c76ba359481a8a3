"""Where extracted features lie: in memory, or as a folder of the cache that is written whole or not at all.

An entry holds `pooled.f32` [n D], `mean.f32` [n D], `places.npy` [n 3] (grid height, grid width, first patch), for
dense features `tokens.f32` [T D] and `lengths.f32` [T 1], and `card.json` with their shapes, checksums and what they
are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
import PIL
import timm
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.bounded import used
from common.disk import checksum, fragment, json_object, put
from common.errors import BadInput
from common.unwritable import in_cache
from evals.features.matrix import BYTES, DiskRows, Rows, Sink
from evals.features.view import View

if TYPE_CHECKING:
    from evals.backbones.backbone import Backbone
    from evals.datasets.labelled_set import LabelledSet

VERSION = 6  # raise when the same view of the same image shows other pixels, or files mean something else
CARD, PLACES = "card.json", "places.npy"


@dataclass(frozen=True)
class StoredFeatures:
    """Features of n images; `evals.features.feature_set.FeatureSet` says what each is."""

    pooled: Rows
    mean: Rows
    tokens: Rows | None
    lengths: Rows | None
    grids: Int[Tensor, "n 2"] | None
    starts: Int[Tensor, " n"] | None
    square: bool


class BatchFeatures(NamedTuple):
    """Features of images of one shape, on the CPU; patches and their lengths are empty where they are not kept."""

    indices: Int[Tensor, " B"]
    square: Bool[Tensor, " B"]
    grid: Int[Tensor, " 2"]
    pooled: Float[Tensor, "B D"]
    mean: Float[Tensor, "B D"]
    tokens: Float[Tensor, "B P D"]
    lengths: Float[Tensor, "B P"]


@dataclass(frozen=True)
class Entry:
    """The place of one set's features from one backbone through one view; without a folder they stay in memory."""

    folder: Path | None
    count: int
    about: dict[str, Any]

    @classmethod
    def at(
        cls,
        cache: Path | None,
        *,
        backbone: Backbone,
        dataset: LabelledSet,
        keys: Sequence[str],
        view: View,
        precision: str,
    ) -> Entry:
        """Addressed by weights, data (its `stamp`, which moves with every touched file), view and software."""
        about = {
            "version": VERSION, "torch": torch.__version__, "timm": timm.__version__, "pillow": PIL.__version__,
            "precision": precision,
            "view": asdict(view), "backbone": backbone.name, "dataset": dataset.name, "split": dataset.split,
        }  # fmt: skip
        if cache is None:
            return cls(None, len(keys), about)
        named = {key: value for key, value in about.items() if key not in ("backbone", "dataset", "split")}
        content = [named, backbone.fingerprint, dataset.stamp(), list(keys)]
        address = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]
        return cls(cache / "features" / address, len(keys), about)

    def read(self, *, dense: bool) -> StoredFeatures | None:
        """What an earlier extraction left, with patches only where they are asked for; None if damaged."""
        for kind in ("dense",) if dense else ("pooled", "dense"):
            if self.folder:
                used(self.folder.parent.parent, self.folder / kind)
            found = _read(self.folder / kind, self.count, dense=dense) if self.folder else None
            if found is not None:
                return found
        return None

    @contextmanager
    def write(self, dense: bool) -> Iterator[Writer]:
        """A writer; the entry appears when the block ends without an error, and an earlier damaged one goes."""
        if self.folder is None:
            writer = Writer(None, self.count, dense)
            yield writer
            writer.finish()
            return
        final = self.folder / ("dense" if dense else "pooled")
        used(self.folder.parent.parent, final)
        with in_cache(), fragment(final) as new, closing(Writer(new, self.count, dense)) as writer:
            yield writer
            writer.finish(self.about)
            # where another process was faster, others may be reading what it wrote
            put(new, final, unless=lambda: _read(final, self.count, dense=dense) is not None)
            writer.found = _read(final, self.count, dense=dense, trusted=True) or _vanished(final)


class Writer:
    """Takes the features of `count` images in any order, into a new folder or, without one, into memory."""

    found: StoredFeatures

    def __init__(self, folder: Path | None, count: int, dense: bool) -> None:
        if folder:
            folder.mkdir()
        self.count, self.dense, self._folder = count, dense, folder
        names = ("pooled", "mean", *(("tokens", "lengths") if dense else ()))
        self._sinks = {name: Sink(folder / f"{name}.f32" if folder else None) for name in names}
        self._places = torch.zeros(count, 3, dtype=torch.long)
        self._rows, self._square = 0, True

    def put(self, found: BatchFeatures) -> None:
        """The features of a batch; patches lie in the order in which batches are put."""
        self._square = self._square and bool(found.square.all())
        for row, index in enumerate(found.indices.tolist()):
            self._sinks["pooled"].put(index, found.pooled[row : row + 1])
            self._sinks["mean"].put(index, found.mean[row : row + 1])
            self._places[index] = torch.tensor([*found.grid.tolist(), self._rows])
            if self.dense:
                self._sinks["tokens"].put(self._rows, found.tokens[row])
                self._sinks["lengths"].put(self._rows, found.lengths[row, :, None])
                self._rows += found.tokens.shape[1]

    def close(self) -> None:
        """Let go of all files, also where the disk is full and one cannot be completed."""
        with ExitStack() as all_of_them:
            for sink in self._sinks.values():
                all_of_them.callback(sink.close)

    def finish(self, about: dict[str, Any] | None = None) -> None:
        """Complete the matrices; with `about`, describe them in the card."""
        rows = {name: sink.rows() for name, sink in self._sinks.items()}
        grids, starts = (self._places[:, :2], self._places[:, 2]) if self.dense else (None, None)
        patches = (rows.get("tokens"), rows.get("lengths"), grids, starts)
        self.found = StoredFeatures(rows["pooled"], rows["mean"], *patches, self._square)
        if self._folder is None or about is None:
            return
        np.save(self._folder / PLACES, self._places.numpy())
        shapes = {name: list(matrix.shape) for name, matrix in rows.items()}
        checksums = {path.name: checksum(path) for path in sorted(self._folder.iterdir())}
        card = {**about, "square": self._square, "shapes": shapes, "checksums": checksums}
        (self._folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


def _vanished(folder: Path) -> NoReturn:
    raise BadInput(f"got features that vanished from {folder}: want a cache that nobody clears; do run again")


def _read(folder: Path, count: int, *, dense: bool, trusted: bool = False) -> StoredFeatures | None:
    """The entry in a folder, None where it is missing or damaged; one that is `trusted` was just written.

    Without `dense` patches are left out, and so is the comparison of their checksums, which reads all of them.
    """
    try:
        card = json_object((folder / CARD).read_bytes())
        places = torch.from_numpy(np.load(folder / PLACES, allow_pickle=False))
        shapes = {name: shape for name, shape in card["shapes"].items() if dense or name in ("pooled", "mean")}
        rows = {name: DiskRows(folder / f"{name}.f32", (shape[0], shape[1])) for name, shape in shapes.items()}
        whole = all(x.path.stat().st_size == x.shape[0] * x.shape[1] * BYTES for x in rows.values())
        if not whole or len(rows["pooled"]) != count or places.shape != (count, 3):
            return None
        paths = [folder / PLACES, *(matrix.path for matrix in rows.values())]
        if not trusted and any(checksum(path) != card["checksums"][path.name] for path in paths):
            return None
        grids, starts = (places[:, :2], places[:, 2]) if "tokens" in rows else (None, None)
        patches = (rows.get("tokens"), rows.get("lengths"), grids, starts)
        return StoredFeatures(rows["pooled"], rows["mean"], *patches, bool(card["square"]))
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return None
