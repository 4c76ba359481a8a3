"""The labelled part of NYU Depth v2 (Silberman, Hoiem, Kohli, Fergus, ECCV 2012) as published: one .mat file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import BadInput
from common.spread import spread
from evals.datasets.inventory import Inventory
from evals.datasets.labelled_set import IGNORE, BeyondClasses, Surfaces, no_surfaces
from evals.datasets.layouts.ade20k import segment_names
from evals.datasets.layouts.files import digest, stamp
from evals.datasets.reading import AS_USUAL, LARGEST, Reading

MAT_NAME = "nyu_depth_v2_labeled.mat"
MAPPING = "classMapping40.mat"
BYTES = 2_972_037_809
MOST_NUMBERS = 10**6  # in a list of images or of classes, of which there are 1,449 and 894
SPLIT_FILES = ("splits.mat", "nyuDepthV2Splits.mat", "nyu_splits.mat")
SPLIT_VARIABLES = {"train": "trainNdxs", "training": "trainNdxs"} | dict.fromkeys(
    ("val", "validation", "test"), "testNdxs"
)


class NyuMat:
    """The labelled .mat file (v7.3): images [N, 3, W, H] uint8, depth [N, W, H] in metres, labels optional.

    MATLAB stores the first axis fastest, so that its H x W x 3 x N arrives here with all axes reversed. Depth is there
    twice: `rawDepths` is what the sensor measured, 0 where it saw nothing, and `depths` has these holes filled in.
    Published numbers count measured pixels only (BTS takes its test files from `rawDepths`), and so does this set,
    where the file has them.

    Its 894 raw labels do not fit a mask: pixel classes are there only with a `classMapping40.mat` beside the file
    (then NYU40's 39 names, class 40 ignored) or with `classes` that name all labels. The official split (795 / 654)
    is not in the file but in a `splits.mat` beside it; without that only split "all" can be opened.
    """

    classes: tuple[str, ...] = ()
    has_depth, has_surfaces = True, False

    def __init__(
        self,
        path: Path,
        split: str = "train",
        *,
        name: str | None = None,
        count: int | None = None,
        classes: Sequence[str] | None = None,
        reading: Reading = AS_USUAL,
    ) -> None:
        if told := reading.given():
            want = "want none, the file says how it is read"
            raise BadInput(f"got {told[0][0]} for {path}: {want}; leave {told[0][0]} out")
        self._path, self.split, self.name = path, split, name or "nyuv2"
        self._file: Any = None
        arrays = self._arrays()
        self._depth = "rawDepths" if "rawDepths" in arrays else "depths"
        for key in ("images", self._depth):
            if key not in arrays:
                raise BadInput(f"got {path} without '{key}': want NYU Depth v2's labelled file; correct the path")
        _refuse_odd(arrays, path, self._depth)
        rows = _rows(path, split, len(arrays["images"]))
        self.whole = count is None or count >= len(rows)
        self._rows, self._listed = spread(rows, count), len(rows)
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
        raise BadInput(f"got set '{self.name}' without image classes: want kind folder or scenes; correct kind")

    def mask(self, index: int) -> np.ndarray:
        if not self.segments:
            want = f"want {MAPPING} beside {self._path}"
            raise BadInput(f"got set '{self.name}' without masks: {want}; add it or leave segmentation out")
        labels = self._row("labels", index).T
        if (top := int(labels.max(initial=0))) >= len(self._to_segment):
            want = f"want 0 to {len(self._to_segment) - 1}"
            got = f"got label {top} in image {self.key(index)} of {self._path}"
            raise BeyondClasses(f"{got}: {want}; correct classes", top)
        return self._to_segment[labels]

    def depth(self, index: int) -> np.ndarray:
        depth = np.ascontiguousarray(self._row(self._depth, index).T, dtype=np.float32)
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))

    def surfaces(self, index: int) -> Surfaces:
        raise no_surfaces(self.name)

    def found(self) -> Inventory:
        return Inventory(len(self), self._listed, segments=len(self.segments), depth=True)

    def fingerprint(self) -> str:
        return digest([self._path], "nyu", self._rows, self.segments)

    def stamp(self) -> str:
        beside = [self._path.with_name(name) for name in (*SPLIT_FILES, MAPPING)]
        files = [self._path, *(path for path in beside if path.is_file())]
        return stamp(files, "nyu", self._rows, self.segments, self._depth)

    def room(self, index: int) -> str:
        """The kind of room, such as "living_room", by which BTS names its folders."""
        arrays = self._arrays()
        if "sceneTypes" not in arrays:
            raise BadInput(f"got {self._path} without 'sceneTypes': want NYU Depth v2's labelled file; fetch it again")
        letters = arrays[arrays["sceneTypes"][0, self._rows[index]]]
        return "".join(chr(int(letter)) for letter in np.ravel(letters))

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
        mapping = self._path.with_name(MAPPING)
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


def _refuse_odd(arrays: Any, path: Path, depth: str) -> None:
    """Arrays of other axes, or of images that would fill the memory: a file of a few bytes may claim any size."""
    dimensions = {"images": 4, depth: 3, "labels": 3}
    for key in (key for key in dimensions if key in arrays):
        shape: tuple[int, ...] = (*getattr(arrays[key], "shape", ()),)
        if (
            len(shape) != dimensions[key]
            or math.prod(shape[-2:]) > 1e6 * LARGEST
            or (key == "images" and shape[1:2] != (3,))
        ):
            got = f"got '{key}' of {' x '.join(map(str, shape)) or 'no'} values in {path}"
            raise BadInput(f"{got}: want NYU Depth v2's labelled file; fetch it again")


def _open_hdf5(path: Path) -> Any:
    import h5py

    if not path.is_file():
        raise BadInput(f"got no file {path}: want NYU Depth v2's labelled .mat; correct the path")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        want = f"want a .mat of version 7.3, {BYTES:,} bytes as published (it has {path.stat().st_size:,})"
        raise BadInput(f"got unreadable file {path}: {want}; fetch it again") from error


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
                held: Any = file[name]
                _refuse_many(math.prod(held.shape))
                return np.asarray(held).ravel().astype(np.int64)
        from scipy.io import loadmat, whosmat

        _refuse_many(*(math.prod(shape) for key, shape, _ in whosmat(path) if key == name))
        return np.asarray(loadmat(path, variable_names=[name])[name]).ravel().astype(np.int64)
    # a group has no shape; NotImplementedError is loadmat's word for a version that it does not read
    except (OSError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
        raise BadInput(f"got {path} without a readable '{name}': want a .mat file with it; fetch it again") from error


def _refuse_many(*counts: int) -> None:
    """Raises ValueError for more numbers than any list has, before they take the memory."""
    if max(counts, default=0) > MOST_NUMBERS:
        raise ValueError(f"{max(counts):,} numbers")
