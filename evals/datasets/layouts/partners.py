"""Finds for each image its mask or depth map: the file of the same name in a folder that mirrors theirs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from common.errors import BadInput, listing
from evals.datasets.layouts.files import folders_in, images_in, known_folder

SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".pgm", ".npy", ".npz")
UNREAD = {
    (".jpg", ".jpeg", ".jfif", ".gif"): "JPEG and GIF do not keep values: save them as PNG from the first source",
    (".json", ".xml", ".txt"): "outlines are no mask: draw them as PNG, as docs/my-data.md shows",
    (".exr", ".pfm", ".mat", ".h5", ".hdf5"): "convert each to .npy, in metres, as docs/my-data.md shows",
}


def partners(images: Sequence[Path], folder: Path, *, what: str, layout: str) -> list[Path]:
    """For each image the file of its name with one of `SUFFIXES` in either case; all missing ones are counted.

    Raises:
        BadInput: no folder, images without a file, or one with several.
    """
    if not folder.exists() and (hint := _beside(folder)):
        raise BadInput(f"got {what} folder {folder} (missing): want {layout}; {hint}")
    known_folder(folder, what=f"{what} folder", layout=layout)
    present = _by_stem(folder)
    found = [present.get(image.stem, []) for image in images]
    if several := next((paths for paths in found if len(paths) > 1), None):
        got = f"got {several[0]} and {several[1].name}"
        raise BadInput(f"{got}: want one {what} of a name; remove or rename one of them")
    without = [image for image, paths in zip(images, found, strict=True) if not paths]
    if without:
        partner = folder / f"{without[0].stem}.png"
        lacking = {image.stem for image in without}
        way = _what_to_do(folder, lacking, {image.stem for image in images} - lacking)
        if len(without) == 1:
            do = way or "add it or remove the image"
            raise BadInput(f"got no {what} for {without[0]}: want {partner} ({layout}); {do}")
        some = listing([image.name for image in without])
        got = f"got no {what} for {len(without)} of the {len(images)} images in {without[0].parent} ({some})"
        raise BadInput(f"{got}: want {partner} and so on ({layout}); {way or 'finish the download'}")
    return [paths[0] for paths in found]


def strays(images: Path, folder: Path) -> list[Path]:
    """The masks or depth maps of a folder without an image of the same name: signs of images that are missing."""
    stems = {path.stem for path in images_in(images)}
    return sorted(path for stem, paths in _by_stem(folder).items() if stem not in stems for path in paths)


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    """The files of a folder that may hold masks or depth, by their names without suffix."""
    found: dict[str, list[Path]] = {}
    for name in _visible(folder):
        if name.lower().endswith(SUFFIXES):
            found.setdefault(Path(name).stem, []).append(folder / name)
    return found


def _visible(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file())


def _beside(folder: Path) -> str:
    """What lies where a folder of a split is missing, and how it becomes that; "" where nothing is like it."""
    if folder.parent.is_dir():
        files = _visible(folder.parent)
        suffixes = {Path(name).suffix.lower() for name in files}
        way = next((way for known, way in UNREAD.items() if suffixes & {*known}), "")
        return f"{folder.parent} holds {listing(files)}, and {way}" if way else ""
    root = folder.parent.parent
    others = [path.name for path in folders_in(root) if path.name != "images"] if root.is_dir() else []
    return f"there are the folders {listing(others)}: give the right one this name" if others else ""


def _what_to_do(folder: Path, without: set[str], matched: set[str]) -> str:
    """What lies in the folder in place of what is wanted, and how it becomes that; "" where nothing is like it."""
    others = [Path(name) for name in _visible(folder) if Path(name).stem not in matched]
    alike = [path for path in others if path.stem in without]
    if not others or (not alike and (matched or len(without) == 1)):
        return ""
    found = alike or others
    suffix = found[0].suffix.lower()
    way = next((way for suffixes, way in UNREAD.items() if suffix in suffixes), None)
    if way is None and not alike and suffix not in SUFFIXES:
        return ""
    usual = "convert them to PNG" if alike else "give each the name of its image"
    return f"there lie {listing([path.name for path in found])}: {way or usual}"
