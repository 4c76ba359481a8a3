"""NYU Depth v2 (Silberman, Hoiem, Kohli, Fergus, ECCV 2012): a folder of files, or the labelled .mat file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from evals.datasets.ade20k import read_mask, segment_names, split_images
from evals.datasets.base import IGNORE, LabelledSet
from evals.datasets.files import digest, opened, partners, read_rgb, same_size, spread
from evals.errors import BadInput

MAT_NAME = "nyu_depth_v2_labeled.mat"
SPLIT_FILES = ("splits.mat", "nyuDepthV2Splits.mat", "nyu_splits.mat")
SPLIT_VARIABLES = {"train": "trainNdxs", "training": "trainNdxs"} | dict.fromkeys(
    ("val", "validation", "test"), "testNdxs"
)


def open_nyu(root: Path, split: str = "train", **rest: Any) -> LabelledSet:
    """The set in the form that `root` has: a .mat file, a folder that holds it, or a folder of images and depth."""
    if root.suffix == ".mat":
        return NyuMat(root, split, **rest)
    if (root / MAT_NAME).is_file() and not (root / "images").is_dir():
        return NyuMat(root / MAT_NAME, split, **rest)
    return NyuFolder(root, split, **rest)


class NyuFolder:
    """images/<split>/NAME.jpg beside depth/<split>/NAME.png: 16 bits, millimetres, 0 = unknown.

    Where annotations/<split> is there too, its pixel classes are read as ADE20K's are, by default with the 39 names
    of NYU40.
    """

    classes: tuple[str, ...] = ()
    has_depth = True

    def __init__(
        self,
        root: Path,
        split: str = "train",
        *,
        name: str | None = None,
        count: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        images = split_images(root, split)
        part = images[0].parent.name
        depths = partners(images, root / "depth" / part, what="depth")
        masked = classes is not None or (root / "annotations" / part).is_dir()
        masks = partners(images, root / "annotations" / part, what="annotation") if masked else []
        self.root, self.split, self.name = root, split, name or root.resolve().name
        self.segments = segment_names(classes, "nyu40") if masked else ()
        self._images, self._depths, self._masks = (spread(paths, count) for paths in (images, depths, masks))

    def __len__(self) -> int:
        return len(self._images)

    def key(self, index: int) -> str:
        return self._images[index].relative_to(self.root).as_posix()

    def image(self, index: int) -> np.ndarray:
        return read_rgb(self._images[index])

    def label(self, index: int) -> int:
        raise _unlabelled(self.name)

    def mask(self, index: int) -> np.ndarray:
        if not self._masks:
            raise _unmasked(self.name, f"{self.root / 'annotations'}")
        mask = read_mask(self._masks[index], self.segments)
        same_size(self._masks[index], (mask.shape[0], mask.shape[1]), self._images[index])
        return mask

    def depth(self, index: int) -> np.ndarray:
        path = self._depths[index]
        with opened(path) as image:
            if not image.mode.startswith("I"):
                raise BadInput(f"got {path} in mode {image.mode}: want 16 bits of millimetres; convert it")
            depth = np.asarray(image).astype(np.float32) / np.float32(1000)
        same_size(path, (depth.shape[0], depth.shape[1]), self._images[index])
        return depth

    def fingerprint(self) -> str:
        return digest([*self._images, *self._depths, *self._masks], "nyu", self.segments)


class NyuMat:
    """The labelled .mat file (v7.3): images [N, 3, W, H] uint8, depths [N, W, H] in metres, labels optional.

    Its 894 raw labels do not fit a mask: pixel classes are there only with a `classMapping40.mat` beside the file
    (then NYU40's 39 names, class 40 ignored) or with `classes` that name all labels. The official split (795 / 654)
    is not in the file but in a `splits.mat` beside it; without that only split "all" can be opened.
    """

    classes: tuple[str, ...] = ()
    has_depth = True

    def __init__(
        self,
        path: Path,
        split: str = "train",
        *,
        name: str | None = None,
        count: int | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self._path, self.split, self.name = path, split, name or "nyuv2"
        self._file: Any = None
        arrays = self._arrays()
        for key in ("images", "depths"):
            if key not in arrays:
                raise BadInput(f"got {path} without '{key}': want NYU Depth v2's labelled file; correct root")
        self._rows = spread(_rows(path, split, len(arrays["images"])), count)
        self._to_segment, self.segments = self._segments(arrays, classes)

    def __getstate__(self) -> dict[str, object]:
        """Each process opens the file itself."""
        return {**self.__dict__, "_file": None}

    def __len__(self) -> int:
        return len(self._rows)

    def key(self, index: int) -> str:
        return f"{self._rows[index] + 1:04d}"

    def image(self, index: int) -> np.ndarray:
        return np.ascontiguousarray(self._row("images", index).transpose(2, 1, 0))

    def label(self, index: int) -> int:
        raise _unlabelled(self.name)

    def mask(self, index: int) -> np.ndarray:
        if not self.segments:
            raise _unmasked(self.name, f"classMapping40.mat beside {self._path}")
        labels = self._row("labels", index).T
        if (top := int(labels.max(initial=0))) >= len(self._to_segment):
            want = f"want 0 to {len(self._to_segment) - 1}"
            raise BadInput(f"got label {top} in image {self.key(index)} of {self._path}: {want}; correct classes")
        return self._to_segment[labels]

    def depth(self, index: int) -> np.ndarray:
        depth = np.ascontiguousarray(self._row("depths", index).T, dtype=np.float32)
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))

    def fingerprint(self) -> str:
        return digest([self._path], "nyu", self._rows, self.segments)

    def _arrays(self) -> Any:
        if self._file is None:
            self._file = _open_hdf5(self._path)
        return self._file

    def _row(self, key: str, index: int) -> np.ndarray:
        row = self._rows[index]
        try:
            return self._arrays()[key][row]
        except OSError as error:
            want = "want a whole file; fetch it again"
            raise BadInput(f"got unreadable '{key}' of image {row + 1} in {self._path}: {want}") from error

    def _segments(self, arrays: Any, classes: Sequence[str] | None) -> tuple[np.ndarray, tuple[str, ...]]:
        """A table from raw label to pixel class, and the classes' names."""
        mapping = self._path.with_name("classMapping40.mat")
        if "labels" not in arrays or (classes is None and not mapping.is_file()):
            if classes is not None:
                raise BadInput(f"got classes for {self._path} without 'labels': want none; leave classes out")
            return np.zeros(0, dtype=np.uint8), ()
        names = segment_names(classes, "nyu40")
        raw = np.arange(len(names) + 1)
        if mapping.is_file():
            raw = np.concatenate([[0], _variable(mapping, "mapClass")])
        inside = (raw > 0) & (raw <= len(names))
        return np.where(inside, raw - 1, IGNORE).astype(np.uint8), names


def _unlabelled(name: str) -> BadInput:
    return BadInput(f"got set '{name}' without image classes: want kind folder or scenes; correct kind")


def _unmasked(name: str, where: str) -> BadInput:
    return BadInput(f"got set '{name}' without masks: want {where}; add it or leave segmentation out")


def _open_hdf5(path: Path) -> Any:
    import h5py

    if not path.is_file():
        raise BadInput(f"got no file {path}: want NYU Depth v2's labelled .mat; correct root")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise BadInput(f"got unreadable file {path}: want a .mat of version 7.3; fetch it again") from error


def _rows(path: Path, split: str, total: int) -> list[int]:
    """Positions of a split's images in the file, counted from 0."""
    if split == "all":
        return list(range(total))
    if split not in SPLIT_VARIABLES:
        known = ", ".join((*SPLIT_VARIABLES, "all"))
        raise BadInput(f"got split '{split}' for {path}: want one of {known}; correct split")
    beside = next((path.with_name(name) for name in SPLIT_FILES if path.with_name(name).is_file()), None)
    if beside is None:
        want = f"want {SPLIT_FILES[0]} beside it"
        raise BadInput(f"got split '{split}' for {path}, which has no splits: {want}; add it or use split 'all'")
    rows = [int(number) - 1 for number in _variable(beside, SPLIT_VARIABLES[split])]
    if not rows or min(rows) < 0 or max(rows) >= total:
        raise BadInput(f"got numbers outside 1 to {total} in {beside}: want those of {path}; use its own split file")
    return rows


def _variable(path: Path, name: str) -> np.ndarray:
    """A numeric variable of a .mat file of either format, as one row of whole numbers."""
    import h5py

    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                return np.asarray(file[name]).ravel().astype(np.int64)
        from scipy.io import loadmat

        return np.asarray(loadmat(path)[name]).ravel().astype(np.int64)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError) as error:
        raise BadInput(f"got {path} without a readable '{name}': want a .mat file with it; fetch it again") from error
