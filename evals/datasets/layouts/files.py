"""Finding the files of a set, with errors that name them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

from PIL import Image

from common.errors import BadInput, printable
from evals.datasets.decoding.image_file import FORMATS
from evals.datasets.decoding.other_file import by_suffix

AGAIN = "folder read before"
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
SPLIT_NAMES = (("train", "training"), ("val", "validation", "valid"), ("test", "testing"))
ALL_SPLITS = tuple(name for names in SPLIT_NAMES for name in names)


def known_folder(path: Path, *, what: str, layout: str = "a folder") -> Path:
    """The path itself, or `BadInput` with the layout that is wanted where it is no folder."""
    if not path.is_dir():
        state = "a file" if path.exists() else "a dangling link" if path.is_symlink() else "missing"
        do = "unpack it" if path.suffix.lower() in ARCHIVES and path.exists() else "correct the path"
        raise BadInput(f"got {what} {path} ({state}): want {layout}; {do}")
    return path


def split_folder(parent: Path, split: str) -> Path | None:
    """The sub-folder of a split, under its own or a customary name; None where `parent` has no splits at all."""
    if (parent / split).is_dir():
        return parent / split
    parts = {path.name.casefold(): path for path in folders_in(parent)[::-1]}
    alike = next((names for names in SPLIT_NAMES if split.casefold() in names), ())
    for name in (split.casefold(), *alike):
        if name in parts:
            return parts[name]
    others = [path.name for path in parts.values() if is_split(path.name)]
    if others:
        want = f"want one of {', '.join(sorted(others))}"
        raise BadInput(f"got split '{split}' for {parent}: {want}; set split, for --data in a set's YAML file")
    return None


def is_split(name: str) -> bool:
    """Whether a folder's name is one of the customary names of splits, in small or capital letters."""
    return name.casefold() in ALL_SPLITS


def usual_split(split: str) -> str:
    """The first of the customary names of a split: "val" for "Validation"; any other name stays."""
    return next((names[0] for names in SPLIT_NAMES if split.casefold() in names), split)


def suffixes() -> tuple[str, ...]:
    """The suffixes of pictures that can be read, small letters, as Pillow lists them."""
    return tuple(suffix for suffix, kind in Image.registered_extensions().items() if kind in FORMATS)


class Passed:
    """What lies in the folders of a set and is no image of it: the paths by the reason."""

    def __init__(self) -> None:
        self.over: dict[str, list[Path]] = {}

    def add(self, reason: str, path: Path) -> None:
        """Take down one more."""
        self.over.setdefault(reason, []).append(path)

    def take(self, other: Passed) -> None:
        """Add what another has taken down."""
        for reason, paths in other.over.items():
            self.over.setdefault(reason, []).extend(paths)

    def named(self, root: Path) -> dict[str, list[str]]:
        """The reasons, each with its paths counted from `root`."""
        return {
            reason: [printable(path.relative_to(root).as_posix()) for path in paths]
            for reason, paths in self.over.items()
        }


def images_in(folder: Path, passed: Passed | None = None) -> list[Path]:
    """Image files directly in a folder, sorted by name; `passed` takes down the other files."""
    return _looked_through(folder, passed or Passed())[0]


def images_below(folder: Path, passed: Passed | None = None) -> list[Path]:
    """Image files at any depth, sorted by path; hidden ones are left out and a folder linked twice is read once."""
    passed = passed or Passed()
    found: list[Path] = []
    visited: set[str] = set()
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        if (real := os.path.realpath(here)) in visited:
            passed.add(AGAIN, here)
            continue
        visited.add(real)
        images, folders = _looked_through(here, passed)
        found += images
        waiting += folders
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def folders_in(folder: Path) -> list[Path]:
    """Sub-folders that are not hidden, sorted by name."""
    return _looked_through(folder, Passed())[1]


def has_images(folder: Path) -> bool:
    """Whether there is an image at any depth; the first one ends the search."""
    waiting, visited = [folder], set()
    while waiting:
        here = waiting.pop()
        if (real := os.path.realpath(here)) not in visited:
            visited.add(real)
            images, folders = _looked_through(here, Passed())
            if images:
                return True
            waiting += folders
    return False


def _looked_through(folder: Path, passed: Passed) -> tuple[list[Path], list[Path]]:
    """Images and sub-folders directly in a folder, each sorted by name."""
    images, folders, pictures = [], [], suffixes()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                is_folder = entry.is_dir()
                if entry.name.startswith((".", "__") if is_folder else "."):  # as .DS_Store and __MACOSX are
                    passed.add("hidden", folder / entry.name)
                elif is_folder:
                    folders.append(entry.name)
                elif not entry.name.lower().endswith(pictures):
                    passed.add(by_suffix(entry.name), folder / entry.name)
                elif entry.is_file():
                    images.append(entry.name)
                else:
                    passed.add("dangling link" if entry.is_symlink() else "no file", folder / entry.name)
    except PermissionError:
        passed.add("unreadable folder", folder)
    return [folder / name for name in sorted(images)], [folder / name for name in sorted(folders)]


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
        total.update(f"{inside[folder] / name}\0{told}\n".encode("utf-8", "surrogateescape"))
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
