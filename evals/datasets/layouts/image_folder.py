"""A folder of images: a sub-folder for each class, or no classes at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common.errors import BadInput, listing, nearest
from evals.datasets.inventory import skipped_words
from evals.datasets.layouts.class_table import in_split, read_table
from evals.datasets.layouts.file_set import FileSet, Found
from evals.datasets.layouts.files import (
    ARCHIVES,
    Passed,
    folders_in,
    has_images,
    images_below,
    images_in,
    is_split,
    known_folder,
    split_folder,
)

LAYOUT = "a folder of images, or of a folder for each class, below train and val or without splits"


class ImageFolder(FileSet):
    """Images below `root`/`split`, or below `root` itself where it has no splits.

    Sub-folders are the classes, in order of their names, and may be nested inside. Where there are none, or with
    `classes=[]`, it is a set without classes. `classes` chooses sub-folders and their order. A layout that has two
    readings is refused by both, with the setting that chooses.
    """

    kind = "folder"
    without_label = "classes: want a sub-folder for each class; use a set with classes"

    def find(self, root: Path, split: str, classes: Sequence[str] | None) -> Found:
        known_folder(root, what="root", layout=LAYOUT)
        if self.reading.table is not None:
            return _by_table(root, split, classes, root / self.reading.table, self.reading.splits)
        passed, splits = Passed(), self.reading.splits
        folder = _part(root, split, splits)
        names = _class_names(folder, classes, passed)
        members = [(path, -1) for path in images_below(folder, passed)] if not names else []
        members = members or _by_class(folder, names, passed, splits=splits)
        if not members:
            raise _none(folder, passed)
        images, labels = zip(*members, strict=True)
        remarks = () if folder != root else (f"no folders of splits, so '{split}' is all of it",)
        for path in images_in(root) if folder != root else ():
            passed.add("beside the splits", path)
        return Found(images, labels, classes=names, passed=passed, remarks=remarks)


def _by_table(root: Path, split: str, classes: Sequence[str] | None, table: Path, splits: bool | None) -> Found:
    """The images of a split that a table names, in order of their names; it or else folders tell the splits."""
    every, passed = read_table(table), Passed()
    parted = any(row.split for row in every)
    folder = root if parted else _part(root, split, splits)
    here = {path.relative_to(root).as_posix(): path for path in images_below(folder, passed)}
    below = "" if folder == root else f"{folder.relative_to(root).as_posix()}/"
    rows = [row for row in in_split(every, split, table) if row.file.startswith(below)]
    if missing := [row.file for row in rows if row.file not in here]:
        got = f"got no image for {len(missing)} of the {len(rows)} lines of {table} ({listing(missing)})"
        raise BadInput(f"{got}: want files of these names below {root}; correct the table or finish the download")
    label_of = {row.file: row.label for row in rows}
    names = _chosen(classes, sorted(set(label_of.values())), table)
    members = [(path, names.index(label_of[file])) for file, path in here.items() if label_of.get(file) in names]
    if not members:
        raise BadInput(f"got no image for split '{split}' in {table}: want lines of it; correct the table or split")
    known = {row.file for row in every}
    for path in (path for file, path in here.items() if file not in known):
        passed.add("not in the table", path)
    images, labels = zip(*members, strict=True)
    remarks = () if parted or below else (f"no splits in {table.name} or folders, so '{split}' is all of it",)
    return Found(images, labels, classes=names, passed=passed, remarks=remarks, meaning=labels)


def _chosen(wanted: Sequence[str] | None, present: Sequence[str], place: Path) -> tuple[str, ...]:
    """The classes that are wanted, or all. Raises `BadInput` for one that is not there."""
    for name in wanted or ():
        if name not in present:
            want = f"want one of {', '.join(present)}" if present else "want its sub-folder"
            hint = nearest(name, present, otherwise="correct classes")
            raise BadInput(f"got class '{name}' for {place}: {want}; {hint}")
    return tuple(present if wanted is None else wanted)


def _part(root: Path, split: str, splits: bool | None) -> Path:
    """The folder of a split: `root` itself where it has no splits, or is said to have none."""
    if splits is False:
        return root
    inside = folders_in(root)
    named = [path.name for path in inside if is_split(path.name) or path.name == split]
    if splits is None and named:
        beside = [path.name for path in inside if path.name not in named and has_images(path)]
        if beside:
            got = f"got the folder {named[0]} beside {listing(beside)} in {root}"
            do = f"set splits: true to read {named[0]} as a split, splits: false to read all of them as classes"
            raise BadInput(f"{got}: want either splits or classes; {do}")
    if splits and not named:
        raise BadInput(f"got splits: true for {root}: want folders such as train and val in it; correct root or splits")
    return split_folder(root, split) or root


def _class_names(folder: Path, wanted: Sequence[str] | None, passed: Passed) -> tuple[str, ...]:
    present = [path.name for path in folders_in(folder)]
    if wanted is None:
        loose = images_in(folder, passed if present else None)
        if not loose:
            return tuple(present)
        passed.over.clear()  # all of the folder is looked through once more
        if held := [name for name in present if has_images(folder / name)]:
            raise _stray(folder, [path.name for path in loose], held)
        return ()
    for path in images_in(folder) if wanted else ():
        passed.add("beside the classes", path)
    return _chosen(wanted, present, folder)


def _stray(folder: Path, loose: Sequence[str], held: Sequence[str]) -> BadInput:
    """The error for images that lie beside folders of images."""
    got = f"got {listing(loose)} beside the folders {listing(held)} in {folder}"
    shown = ", ".join(held) if len(held) <= 10 else f"{', '.join(held[:3])}, …"
    do = f"move {'it' if len(loose) == 1 else 'them'} away to read the folders as classes, or set classes: [{shown}]"
    return BadInput(f"{got}: want images or folders of classes; {do}, or classes: [] to read all without classes")


def _by_class(folder: Path, classes: Sequence[str], passed: Passed, *, splits: bool | None) -> list[tuple[Path, int]]:
    members: list[tuple[Path, int]] = []
    empty: list[tuple[str, Passed]] = []
    for number, name in enumerate(classes):
        own = Passed()
        paths = images_below(folder / name, own)
        members += [(path, number) for path in paths]
        passed.take(own)
        if not paths:
            empty.append((name, own))
    if splits is None:
        _refuse_inner_splits(folder, {path.parent for path, _ in members})
    if empty and members:
        name, own = empty[0]
        got = f"got empty class '{name}' in {folder}{_instead(folder, own)}"
        raise BadInput(f"{got}: want at least one image; fill or remove its folder")
    return members


def _none(folder: Path, passed: Passed) -> BadInput:
    """The error for a folder without any image."""
    got = f"got no image in {folder}{_instead(folder, passed)}"
    packed = any(path.suffix.lower() in ARCHIVES for paths in passed.over.values() for path in paths)
    do = "unpack the archive" if packed else "correct the path or split"
    return BadInput(f"{got}: want files like .jpg or .png; {do}")


def _instead(folder: Path, passed: Passed) -> str:
    """What lies in a folder in place of images."""
    return f" ({skipped_words(passed.named(folder))})" if passed.over else ""


def _refuse_inner_splits(folder: Path, holders: set[Path]) -> None:
    """Refuses class/train/*.jpg, where the images of all splits would be read as one."""
    for holder in sorted(holders):
        parts = holder.relative_to(folder).parts
        inner = next((part for part in parts[1:] if is_split(part)), None)
        if inner:
            got = f"got the folder {inner} inside of {parts[0]} in {folder}"
            do = f"move {parts[0]}/{inner} to {inner}/{parts[0]} and so on, name {folder / parts[0]} as root where "
            do += f"{parts[0]} is no class, or set splits: false to read all below {parts[0]} as one class"
            raise BadInput(f"{got}: want splits above classes, as in train/cat; {do}")
