"""A folder of images: a sub-folder for each class, or no classes at all."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from evals.datasets.files import (
    digest,
    folders_in,
    images_below,
    images_in,
    known_folder,
    read_rgb,
    split_folder,
    spread,
)
from evals.errors import BadInput


class ImageFolder:
    """Images below `root`/`split`, or below `root` itself where it has no splits.

    Sub-folders are the classes, in order of their names, and may be nested inside. Images that lie directly in the
    folder, or `classes=[]`, make it a set without classes. `classes` chooses sub-folders and their order.
    """

    segments: tuple[str, ...] = ()
    has_depth = False

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        name: str | None = None,
        count: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.root = known_folder(root, what="root")
        self.name = name or root.resolve().name
        self.split = split
        folder = split_folder(root, split) or root
        self.classes = _class_names(folder, classes)
        members = _by_class(folder, self.classes) if self.classes else [(path, -1) for path in images_below(folder)]
        if not members:
            raise BadInput(f"got no image in {folder}: want files like .jpg or .png; correct root or split")
        self._members = spread(members, count)

    def __len__(self) -> int:
        return len(self._members)

    def key(self, index: int) -> str:
        return self._members[index][0].relative_to(self.root).as_posix()

    def image(self, index: int) -> np.ndarray:
        return read_rgb(self._members[index][0])

    def label(self, index: int) -> int:
        if not self.classes:
            want = "want a sub-folder for each class; use a set with classes"
            raise BadInput(f"got set '{self.name}' without classes: {want}")
        return self._members[index][1]

    def mask(self, index: int) -> np.ndarray:
        raise BadInput(f"got set '{self.name}' without masks: want kind ade20k, nyu or scenes; correct kind")

    def depth(self, index: int) -> np.ndarray:
        raise BadInput(f"got set '{self.name}' without depth: want kind nyu or scenes; correct kind")

    def fingerprint(self) -> str:
        return digest([path for path, _ in self._members], "folder", self.classes)


def _class_names(folder: Path, wanted: Sequence[str] | None) -> tuple[str, ...]:
    present = [path.name for path in folders_in(folder)]
    if wanted is None:
        return () if images_in(folder) else tuple(present)
    for name in wanted:
        if name not in present:
            near = get_close_matches(name, present, n=1)
            hint = f"did you mean '{near[0]}'?" if near else "correct classes"
            want = f"want one of {', '.join(present)}" if present else "want its sub-folder"
            raise BadInput(f"got class '{name}' for {folder}: {want}; {hint}")
    return tuple(wanted)


def _by_class(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    members: list[tuple[Path, int]] = []
    empty: list[str] = []
    for number, name in enumerate(classes):
        paths = images_below(folder / name)
        members += [(path, number) for path in paths]
        if not paths:
            empty.append(name)
    if empty and members:
        raise BadInput(f"got empty class '{empty[0]}' in {folder}: want at least one image; fill or remove its folder")
    return members
