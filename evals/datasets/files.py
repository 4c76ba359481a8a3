"""Finding the files of a set, with errors that name them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar

from common.errors import BadInput

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff")
SPLIT_NAMES = (("train", "training"), ("val", "validation", "valid"), ("test", "testing"))
T = TypeVar("T")


def known_folder(path: Path, *, what: str, layout: str = "a folder") -> Path:
    """The path itself, or `BadInput` with the layout that is wanted where it is no folder."""
    if not path.is_dir():
        state = "a file" if path.exists() else "missing"
        raise BadInput(f"got {what} {path} ({state}): want {layout}; correct the path")
    return path


def split_folder(parent: Path, split: str) -> Path | None:
    """The sub-folder of a split, under its own or a customary name; None where `parent` has no splits at all."""
    alike = next((names for names in SPLIT_NAMES if split in names), ())
    for name in (split, *alike):
        if (parent / name).is_dir():
            return parent / name
    others = [name for names in SPLIT_NAMES for name in names if (parent / name).is_dir()]
    if others:
        raise BadInput(f"got split '{split}' for {parent}: want one of {', '.join(sorted(others))}; correct split")
    return None


def usual_split(split: str) -> str:
    """The first of the customary names of a split: "val" for "validation"; any other name stays."""
    return next((names[0] for names in SPLIT_NAMES if split in names), split)


def images_in(folder: Path) -> list[Path]:
    """Image files directly in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if _is_image(entry)]
    return [folder / name for name in sorted(names)]


def images_below(folder: Path) -> list[Path]:
    """Image files at any depth, sorted by path; hidden ones are left out and a folder linked twice is read once."""
    found: list[Path] = []
    visited: set[str] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        if (real := os.path.realpath(here)) in visited:
            continue
        visited.add(real)
        found += images_in(here)
        waiting += folders_in(here)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def folders_in(folder: Path) -> list[Path]:
    """Sub-folders that are not hidden, sorted by name."""
    with os.scandir(folder) as entries:
        names = [entry.name for entry in entries if entry.is_dir() and not entry.name.startswith((".", "__"))]
    return [folder / name for name in sorted(names)]


def _is_image(entry: os.DirEntry[str]) -> bool:
    return entry.name.lower().endswith(SUFFIXES) and not entry.name.startswith(".") and entry.is_file()


def spread(items: Sequence[T], count: int | None) -> list[T]:
    """`count` of the items at even distances, or all where there are no more."""
    if count is None or count >= len(items):
        return list(items)
    return [items[place * len(items) // count] for place in range(count)]


def listing(items: Sequence[str], most: int = 3) -> str:
    """The first few of them, and how many more there are."""
    rest = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + rest


def digest(paths: Sequence[Path], *settings: object) -> str:
    """Hash of the files' names and sizes and of the settings that say how they are read.

    Names count from the folder that the files share, so that the same data elsewhere, or copied, is the same data.
    """
    return _hashed(paths, settings, lambda state: (state.st_size,))


def stamp(paths: Sequence[Path], *settings: object) -> str:
    """Hash like `digest` that also covers each file's times and inode, and so changes when a file is replaced.

    The time of the last change to the inode cannot be set by hand, so that neither a file of the same size nor one
    that is given its old date goes unnoticed.
    """
    return _hashed(paths, settings, lambda state: (state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino))


def _hashed(
    paths: Sequence[Path], settings: tuple[object, ...], facts: Callable[[os.stat_result], tuple[int, ...]]
) -> str:
    total = hashlib.sha256(repr(settings).encode())
    found = list(_resolved(paths))
    folders = {folder for folder, _, _ in found}
    shared = os.path.commonpath(folders) if folders else ""
    inside = {folder: folder.relative_to(shared) for folder in folders}
    for folder, name, state in found:
        told = "\0".join(str(fact) for fact in facts(state))
        total.update(f"{inside[folder] / name}\0{told}\n".encode())
    return total.hexdigest()


def _resolved(paths: Sequence[Path]) -> Iterator[tuple[Path, str, os.stat_result]]:
    """Folder and name of each file behind all links, and its state: one look at the disk each, for the files are many
    and their folders few."""
    real_folder = cache(Path.resolve)
    for path in paths:
        state = path.lstat()
        if stat.S_ISLNK(state.st_mode):
            real = path.resolve()
            yield real.parent, real.name, real.stat()
        else:
            yield real_folder(path.parent), path.name, state
