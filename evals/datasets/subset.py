"""Some of the images of a set, as a set of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from common.errors import BadInput
from evals.datasets.files import spread
from evals.datasets.labelled_set import LabelledSet


class Subset:
    """The images of `dataset` at `indices`, in that order; names, classes and readers are the set's own."""

    def __init__(self, dataset: LabelledSet, indices: Sequence[int]) -> None:
        outside = [index for index in indices if not 0 <= index < len(dataset)]
        if outside:
            want = f"want 0 to {len(dataset) - 1}"
            raise BadInput(f"got index {outside[0]} for a subset of '{dataset.name}': {want}; correct the indices")
        self._dataset, self.indices = dataset, tuple(int(index) for index in indices)

    @property
    def name(self) -> str:
        return self._dataset.name

    @property
    def split(self) -> str:
        return self._dataset.split

    @property
    def classes(self) -> tuple[str, ...]:
        return self._dataset.classes

    @property
    def segments(self) -> tuple[str, ...]:
        return self._dataset.segments

    @property
    def has_depth(self) -> bool:
        return self._dataset.has_depth

    def __len__(self) -> int:
        return len(self.indices)

    def key(self, index: int) -> str:
        return self._dataset.key(self.indices[index])

    def image(self, index: int) -> np.ndarray:
        return self._dataset.image(self.indices[index])

    def label(self, index: int) -> int:
        return self._dataset.label(self.indices[index])

    def mask(self, index: int) -> np.ndarray:
        return self._dataset.mask(self.indices[index])

    def depth(self, index: int) -> np.ndarray:
        return self._dataset.depth(self.indices[index])

    def fingerprint(self) -> str:
        return self._of(self._dataset.fingerprint())

    def stamp(self) -> str:
        return self._of(self._dataset.stamp())

    def _of(self, whole: str) -> str:
        return hashlib.sha256(f"{whole} {self.indices}".encode()).hexdigest()


def spread_subset(dataset: LabelledSet, count: int | None) -> LabelledSet:
    """`count` images at even distances, or the set itself where `count` is None or no smaller than the set."""
    if count is None or count >= len(dataset):
        return dataset
    if count < 1:
        raise BadInput(f"got count {count} for a subset of '{dataset.name}': want at least 1; leave it out for all")
    return Subset(dataset, spread(range(len(dataset)), count))
