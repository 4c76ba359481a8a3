"""Several named sets as one pool of training images, with the components that batches can be drawn from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from common.errors import BadInput
from evals.datasets.labelled_set import LabelledSet
from evals.datasets.settings import open_one
from harness.settings import Components, Data

MEMORY = 1 << 30  # bytes


class Pool:
    """One index space over sources, in their order; decoded images are kept up to `memory` bytes.

    components: name -> sorted indices. By image class they are called "source/class"; a source without classes is one
    component under its own name, and a class without images is none. Raises BadInput for no source or an empty one.
    """

    def __init__(
        self,
        sources: Mapping[str, LabelledSet],
        components: Components = "image_class",
        *,
        memory: int = MEMORY,
    ) -> None:
        if not sources:
            raise BadInput("got no training source: want at least one; set data.sources.<name>.kind")
        for name, source in sources.items():
            if len(source) == 0:
                raise BadInput(f"got no image in source {name!r}: want at least one; check its root, split and classes")
        self.sources = dict(sources)
        self._sets = list(self.sources.values())
        self._names = list(self.sources)
        self._starts = np.cumsum([0, *map(len, self._sets)])
        self._room = memory
        self._kept: dict[int, np.ndarray] = {}
        self.components: dict[str, np.ndarray] = {}
        for start, (name, source) in zip(self._starts, self.sources.items(), strict=False):
            parts = _by_class(name, source) if components == "image_class" else {name: np.arange(len(source))}
            self.components |= {part: start + members for part, members in parts.items()}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def key(self, index: int) -> str:
        """ "source/key", unique in the pool and stable between runs."""
        which, within = self._place(index)
        return f"{self._names[which]}/{self._sets[which].key(within)}"

    def image(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3]. Raises BadInput naming the source and file of an image that cannot be read."""
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        image = self._read(index)
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._kept[index] = image
        return image

    def preload(self) -> None:
        """Decodes until the memory is full: before worker processes start, so that they share what is kept."""
        for index in tqdm(range(len(self)), desc="decoding", unit="image", disable=None):
            if self.image(index).nbytes > self._room:
                return

    def keep_no_more(self) -> None:
        """What is kept stays, nothing is added: for worker processes, whose copies would add up."""
        self._room = 0

    def _place(self, index: int) -> tuple[int, int]:
        which = int(np.searchsorted(self._starts, index, side="right")) - 1
        return which, int(index - self._starts[which])

    def _read(self, index: int) -> np.ndarray:
        which, within = self._place(index)
        try:
            image = self._sets[which].image(within)
        except BadInput:
            raise
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise BadInput(f"cannot read image {self.key(index)}: {error}; replace or remove the file") from error
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
            got = f"{image.dtype} {list(image.shape)}"
            raise BadInput(f"image {self.key(index)} is {got}: want uint8 [H, W, 3]; replace or remove the file")
        return image


def _by_class(name: str, source: LabelledSet) -> dict[str, np.ndarray]:
    if not source.classes:
        return {name: np.arange(len(source))}
    labels = np.array([source.label(index) for index in range(len(source))])
    parts = {f"{name}/{title}": np.flatnonzero(labels == label) for label, title in enumerate(source.classes)}
    return {part: members for part, members in parts.items() if len(members)}


def fingerprint(pool: Pool) -> str:
    """Hex over the names and contents of all sources; another order of sources is another pool."""
    parts = [[name, source.split, source.fingerprint()] for name, source in pool.sources.items()]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def open_pool(settings: Data, *, cache: Path | None = None, memory: int = MEMORY) -> Pool:
    """The pool of `data.sources`; cache: folder for what sets keep between runs. Raises BadInput as they do."""
    sources = {name: open_one(name, one, cache=cache) for name, one in settings.sources.items()}
    return Pool(sources, settings.components, memory=memory)


class Pools:
    """The pools of an experiment, each opened once however many arms draw from it."""

    def __init__(self, cache: Path | None = None) -> None:
        self._cache = cache
        self._open: dict[str, Pool] = {}

    def __call__(self, settings: Data) -> Pool:
        key = repr((settings.sources, settings.components))
        if key not in self._open:
            self._open[key] = open_pool(settings, cache=self._cache)
        return self._open[key]
