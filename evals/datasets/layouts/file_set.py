"""Image sets in files: what all layouts share once the files of images, masks and depth maps are found."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from common.errors import BadInput, printable
from common.spread import spread
from evals.datasets.decoding.depth_file import read_depth
from evals.datasets.decoding.image_file import read_rgb, same_size
from evals.datasets.decoding.look import look
from evals.datasets.decoding.mask_file import mask_values, read_mask
from evals.datasets.inventory import Inventory
from evals.datasets.labelled_set import Surfaces, no_surfaces
from evals.datasets.layouts.files import Passed, digest, stamp
from evals.datasets.reading import AS_USUAL, OF_DEPTH, OF_MASKS, Reading


@dataclass(frozen=True)
class Found:
    """The files of a split: lists of equal length, or empty where the set has none of a kind.

    `passed` over are files that lie there too; `remarks` say how the folder was understood where that is worth a word;
    `meaning` is what the set's content depends on beside its files and their reading.
    """

    images: Sequence[Path]
    labels: Sequence[int] = ()
    masks: Sequence[Path] = ()
    depths: Sequence[Path] = ()
    classes: tuple[str, ...] = ()
    segments: tuple[str, ...] = ()
    passed: Passed = field(default_factory=Passed)
    remarks: tuple[str, ...] = ()
    meaning: tuple[object, ...] = ()


class FileSet(ABC):
    """A labelled set read from files below `root`; `count` takes an evenly spread part of them.

    A kind of set is this with a way to find the files; it names its kind, and says what a user should do who asks for
    what it has not.
    """

    kind: ClassVar[str]
    without_label: str = "image classes: want kind folder or scenes; correct kind"
    without_mask: str = "masks: want kind ade20k, nyu or scenes; correct kind"
    without_depth: str = "depth: want kind nyu or scenes; correct kind"
    has_surfaces = False

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        name: str | None = None,
        count: int | None = None,
        classes: Sequence[str] | None = None,
        reading: Reading = AS_USUAL,
    ) -> None:
        self.reading = reading
        found = self.find(root, split, classes)
        _refuse_idle(reading, masks=found.masks, depths=found.depths, where=root)
        self.root, self.split, self.name = root, split, printable(name or root.resolve().name)
        self.classes, self.segments = tuple(map(printable, found.classes)), found.segments
        self.has_depth = bool(found.depths)
        self.whole, self._listed = count is None or count >= len(found.images), len(found.images)
        self._over, self._remarks, self._meaning = found.passed.named(root), found.remarks, found.meaning
        self._labels = spread(found.labels, count)
        listed = (found.images, found.masks, found.depths)
        self._images, self._masks, self._depths = (spread(paths, count) for paths in listed)
        looked = [path for place, path in enumerate(self._images) if self.key(place) not in reading.exclude]
        self.look = look(looked, reading, name=self.name)

    def leave_out(self, places: Collection[int]) -> None:
        """Take images out that settings exclude; the set stays what it is in all else."""
        out = {"excluded": [self.key(place) for place in sorted(places)]}
        kept = [place for place in range(len(self)) if place not in places]
        self._labels = [self._labels[place] for place in kept if self._labels]
        listed = (self._images, self._masks, self._depths)
        self._images, self._masks, self._depths = ([paths[place] for place in kept if paths] for paths in listed)
        self._over, self._listed = {**self._over, **out}, self._listed - len(places)

    @abstractmethod
    def find(self, root: Path, split: str, classes: Sequence[str] | None) -> Found:
        """The files of a split, and the names of the classes of images or pixels, by default or as chosen.

        The constructor calls it once, before anything but `reading` is set.

        Raises:
            BadInput: a split, classes or files that are not there.
        """

    def __len__(self) -> int:
        return len(self._images)

    def key(self, index: int) -> str:
        return printable(self._images[index].relative_to(self.root).as_posix())

    def image(self, index: int) -> np.ndarray:
        scale = self.look.scale
        return read_rgb(self._images[index], self.reading, shallow=None if scale else self.name, looked=scale)

    def label(self, index: int) -> int:
        if not self.classes:
            raise BadInput(f"got set '{self.name}' without {self.without_label}")
        return self._labels[index]

    def mask(self, index: int) -> np.ndarray:
        if not self._masks:
            raise BadInput(f"got set '{self.name}' without {self.without_mask}")
        mask = read_mask(self._masks[index], self.segments, self.reading)
        same_size(self._masks[index], (mask.shape[0], mask.shape[1]), self._images[index])
        return mask

    def mask_values(self, index: int) -> np.ndarray:
        """The whole numbers [H, W] of a mask as they are stored, before `reading` says what they mean."""
        return mask_values(self._masks[index], self.reading)

    def depth(self, index: int) -> np.ndarray:
        if not self._depths:
            raise BadInput(f"got set '{self.name}' without {self.without_depth}")
        depth = read_depth(self._depths[index], self.reading)
        same_size(self._depths[index], (depth.shape[0], depth.shape[1]), self._images[index])
        return depth

    def surfaces(self, index: int) -> Surfaces:
        raise no_surfaces(self.name)

    def found(self) -> Inventory:
        return Inventory(
            len(self),
            self._listed,
            len(self.classes),
            len(self.segments),
            depth=self.has_depth,
            skipped=self._over,
            remarks=(*self._remarks, *filter(None, [str(self.look)])),
        )

    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return digest(self._files(), *self._settings())

    def stamp(self) -> str:
        return stamp(self._files(), *self._settings())

    def _settings(self) -> tuple[object, ...]:
        return self.kind, self.classes or self.segments, *self.reading.changed(), *self._meaning

    def notes(self) -> list[str]:
        """What the files tell beyond the images that were found, for those who check a set."""
        return []

    def _files(self) -> list[Path]:
        return [*self._images, *self._depths, *self._masks]


def _refuse_idle(reading: Reading, *, masks: Sequence[Path], depths: Sequence[Path], where: Path) -> None:
    """Refuse settings of masks or depth for a set that has none."""
    for keys, files, what in ((OF_MASKS, masks, "masks"), (OF_DEPTH, depths, "depth")):
        for key in (key for key, _ in reading.changed() if key in keys and not files):
            raise BadInput(f"got {key} for {where}: want none, it has no {what}; leave {key} out")
