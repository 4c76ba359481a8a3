"""Some of the images of a set, as a set of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from common.errors import BadInput, listing, nearest
from common.spread import spread
from evals.datasets.inventory import Inventory
from evals.datasets.labelled_set import LabelledSet, Surfaces
from evals.datasets.layouts.file_set import FileSet


class Subset:
    """The images of `dataset` at `indices`, in that order; names, classes and readers are the set's own.

    `excluded` are the keys of images that settings leave out, for `found`.
    """

    def __init__(self, dataset: LabelledSet, indices: Sequence[int], *, excluded: Sequence[str] = ()) -> None:
        outside = [index for index in indices if not 0 <= index < len(dataset)]
        if outside:
            want = f"want 0 to {len(dataset) - 1}"
            raise BadInput(f"got index {outside[0]} for a subset of '{dataset.name}': {want}; correct the indices")
        self._dataset, self.indices = dataset, tuple(int(index) for index in indices)
        self._excluded = excluded

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

    @property
    def has_surfaces(self) -> bool:
        return self._dataset.has_surfaces

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

    def surfaces(self, index: int) -> Surfaces:
        return self._dataset.surfaces(self.indices[index])

    def found(self) -> Inventory:
        whole = self._dataset.found()
        skipped = {"excluded": self._excluded} if self._excluded else {}
        listed = whole.listed - len(self._excluded)
        return replace(whole, images=len(self), listed=listed, skipped={**whole.skipped, **skipped})

    def fingerprint(self) -> str:
        return self._of(self._dataset.fingerprint())

    def stamp(self) -> str:
        return self._of(self._dataset.stamp())

    def _of(self, whole: str) -> str:
        return hashlib.sha256(f"{whole} {self.indices}".encode()).hexdigest()


class Renumbered(Subset):
    """A set whose classes are some of `classes`, by their names, with labels that count through all of these.

    `original` is the set as its files have it.
    """

    def __init__(self, dataset: LabelledSet, classes: Sequence[str]) -> None:
        super().__init__(dataset, range(len(dataset)))
        self.original = dataset
        self._classes = tuple(classes)
        self._numbers = [self._classes.index(name) for name in dataset.classes]

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    def label(self, index: int) -> int:
        return self._numbers[super().label(index)]

    def found(self) -> Inventory:
        own = super().found()
        without = [name for name in self._classes if name not in self._dataset.classes]
        told = f"no image of {len(without)} of the {len(self._classes)} classes of training ({listing(without)})"
        return replace(own, remarks=(*own.remarks, told) if without else own.remarks)

    def _of(self, whole: str) -> str:
        return hashlib.sha256(f"{whole} {self._classes}".encode()).hexdigest()


def spread_subset(dataset: LabelledSet, count: int | None) -> LabelledSet:
    """`count` images at even distances, or the set itself where `count` is None or no smaller than the set."""
    if count is None or count >= len(dataset):
        return dataset
    if count < 1:
        raise BadInput(f"got count {count} for a subset of '{dataset.name}': want at least 1; leave it out for all")
    return Subset(dataset, spread(range(len(dataset)), count))


def without(dataset: LabelledSet, keys: Sequence[str]) -> LabelledSet:
    """The set without the images of these keys; `places_of` refuses keys that it has not."""
    if not keys:
        return dataset
    out = set(places_of(dataset, keys))
    if isinstance(dataset, FileSet):
        dataset.leave_out(out)
        return dataset
    kept = [index for index in range(len(dataset)) if index not in out]
    return Subset(dataset, kept, excluded=[dataset.key(place) for place in sorted(out)])


def places_of(dataset: LabelledSet, keys: Sequence[str]) -> list[int]:
    """Where the images of these keys are in a set; those in another split of it, or beyond its `count`, are nowhere.

    Raises:
        BadInput: keys that name no image below the set's root.
    """
    places = {dataset.key(index): index for index in range(len(dataset))}
    root = dataset.root if isinstance(dataset, FileSet) else None
    elsewhere = [key for key in keys if key not in places and root is not None and (root / key).is_file()]
    if unknown := [key for key in keys if key not in places and key not in elsewhere]:
        hint = nearest(unknown[0], places, otherwise=f"names are as in {next(iter(places), 'none')}")
        want = "want the names of images as the set gives them"
        raise BadInput(
            f"got exclude={listing(unknown)} for set '{dataset.name}', split '{dataset.split}': {want}; {hint}"
        )
    return [places[key] for key in keys if key in places]
