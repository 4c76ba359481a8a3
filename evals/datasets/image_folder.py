"""A folder of images: a sub-folder for each class, or no classes at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import BadInput, nearest
from evals.datasets.file_set import FileSet, Found
from evals.datasets.files import folders_in, images_below, images_in, known_folder, split_folder


class ImageFolder(FileSet):
    """Images below `root`/`split`, or below `root` itself where it has no splits.

    Sub-folders are the classes, in order of their names, and may be nested inside. Images that lie directly in the
    folder, or `classes=[]`, make it a set without classes. `classes` chooses sub-folders and their order.
    """

    kind = "folder"
    without_label = "classes: want a sub-folder for each class; use a set with classes"

    def find(self, root: Path, split: str, classes: Sequence[str] | None) -> Found:
        known_folder(root, what="root")
        folder = split_folder(root, split) or root
        names = _class_names(folder, classes)
        members = _by_class(folder, names) if names else [(path, -1) for path in images_below(folder)]
        if not members:
            raise BadInput(f"got no image in {folder}: want files like .jpg or .png; correct the path or split")
        images, labels = zip(*members, strict=True)
        return Found(images, labels, classes=names)


def _class_names(folder: Path, wanted: Sequence[str] | None) -> tuple[str, ...]:
    present = [path.name for path in folders_in(folder)]
    if wanted is None:
        return () if images_in(folder) else tuple(present)
    for name in wanted:
        if name not in present:
            want = f"want one of {', '.join(present)}" if present else "want its sub-folder"
            hint = nearest(name, present, otherwise="correct classes")
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
