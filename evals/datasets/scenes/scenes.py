"""The embedded data set: rooms with one large object each, rendered here, so that nothing has to be downloaded.

An image's class is the shape and texture of its large object; colours, camera, room and light are drawn independently
of it. The same picture for the same (seed, split, index) on every machine.
"""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from common.bounded import used
from common.disk import checksum, whole, write_text
from common.errors import BadInput
from common.progress import Bar
from common.unwritable import in_cache
from evals.datasets.inventory import Inventory
from evals.datasets.labelled_set import Surfaces
from evals.datasets.scenes.raycast import picture, truth
from evals.datasets.scenes.rooms import SEGMENTS, SHAPES, SPLITS, compose, shape_of
from evals.datasets.scenes.surfaces import surfaces

VERSION = 1  # raise when a change here, in rooms, textures or raycast changes a pixel
SIZES = (8, 1024)
MEMORY_BYTES = 256 * 2**20


class Scenes:
    """`count` scenes of `size` x `size` pixels (class, segments, depth and surfaces for each).

    With a `cache` folder each part (pictures; segments and depth; surfaces) is rendered once for the whole set, at its
    first use, into one .npy there, and mapped into memory afterwards; without it, scenes are rendered as they are asked
    for and the latest 256 MiB of them kept.
    """

    classes = SHAPES
    segments = SEGMENTS
    has_depth = has_surfaces = True

    def __init__(
        self,
        split: str = "train",
        *,
        name: str = "scenes",
        size: int = 64,
        count: int = 1000,
        seed: int = 0,
        cache: Path | None = None,
    ) -> None:
        if split not in SPLITS:
            raise BadInput(f"got split '{split}' for scenes: want one of {', '.join(SPLITS)}; correct split")
        if not SIZES[0] <= size <= SIZES[1]:
            raise BadInput(f"got size {size} for scenes: want {SIZES[0]} to {SIZES[1]} pixels; correct size")
        if count < 1:
            raise BadInput(f"got count {count} for scenes: want at least 1; correct count")
        self.name, self.split, self.size, self.count, self.seed = name, split, size, count, seed
        self._cache = None if cache is None else Path(cache)
        self._mapped: dict[str, np.ndarray] = {}
        self._recent: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return self.count

    def __getstate__(self) -> dict[str, object]:
        """Worker processes map the cache themselves and start with an empty store."""
        return {**self.__dict__, "_mapped": {}, "_recent": OrderedDict(), "_bytes": 0}

    def key(self, index: int) -> str:
        return f"{self.split}/{self._checked(index):06d}"

    def label(self, index: int) -> int:
        return shape_of(self.seed, self.split, self._checked(index))

    def image(self, index: int) -> np.ndarray:
        return np.array(self._record("image", self._checked(index))["image"])

    def mask(self, index: int) -> np.ndarray:
        return np.array(self._record("truth", self._checked(index))["mask"])

    def depth(self, index: int) -> np.ndarray:
        return np.array(self._record("truth", self._checked(index))["depth"])

    def surfaces(self, index: int) -> Surfaces:
        record = self._record("surfaces", self._checked(index))
        return Surfaces(np.array(record["normals"]), np.array(record["parts"]))

    def found(self) -> Inventory:
        return Inventory(self.count, self.count, len(self.classes), len(self.segments), depth=True, surfaces=True)

    def fingerprint(self) -> str:
        settings = {"version": VERSION, "seed": self.seed, "split": self.split, "size": self.size, "count": self.count}
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()

    def stamp(self) -> str:
        return self.fingerprint()

    def _checked(self, index: int) -> int:
        if not 0 <= index < self.count:
            raise IndexError(f"scene {index} of {self.count}")
        return int(index)

    def _record(self, part: str, index: int) -> np.ndarray:
        if self._cache is not None:
            return self._map(part, self._cache)[index]
        if (part, index) in self._recent:
            self._recent.move_to_end((part, index))
            return self._recent[part, index]
        record = self._recent[part, index] = self._render(part, index)
        self._bytes += record.nbytes
        while self._bytes > MEMORY_BYTES and len(self._recent) > 1:
            self._bytes -= self._recent.popitem(last=False)[1].nbytes
        return record

    def _render(self, part: str, index: int) -> np.ndarray:
        room = compose(self.seed, self.split, index)
        record = np.zeros((), dtype=self._dtype(part))
        if part == "image":
            record["image"] = picture(room, self.size)
        elif part == "truth":
            record["mask"], record["depth"] = truth(room, self.size)
        else:
            record["normals"], record["parts"] = surfaces(room, self.size)
        return record

    def _dtype(self, part: str) -> np.dtype:
        n = self.size
        fields = {
            "image": [("image", "u1", (n, n, 3))],
            "truth": [("mask", "u1", (n, n)), ("depth", "<f4", (n, n))],
            "surfaces": [("normals", "<f4", (n, n, 3)), ("parts", "u1", (n, n))],
        }
        return np.dtype(fields[part])

    def _map(self, part: str, folder: Path) -> np.ndarray:
        if part not in self._mapped:
            path = folder / f"scenes-{self.fingerprint()[:16]}-{part}.npy"
            used(folder, path)
            found = _opened(path, self._dtype(part), self.count)
            if found is None:
                with in_cache(), _alone(path):
                    found = _opened(path, self._dtype(part), self.count)
                    if found is None:
                        title = f"rendering {self.name}/{self.split} {part}"
                        _fill(path, self._dtype(part), self.count, title=title, render=lambda i: self._render(part, i))
                        found = np.load(path, mmap_mode="r")
            self._mapped[part] = found
        return self._mapped[part]


def _opened(path: Path, dtype: np.dtype, count: int) -> np.ndarray | None:
    """The cached array, or None where it is missing or damaged and must be rendered."""
    try:
        found = np.load(path, mmap_mode="r")
        sound = _mark(path).read_text(encoding="ascii") == checksum(path)
    except (OSError, ValueError, EOFError):
        return None
    return found if sound and found.dtype == dtype and found.shape == (count,) else None


def _mark(path: Path) -> Path:
    """The file beside the array that holds its checksum."""
    return path.with_suffix(".sha256")


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Lets one process render while others that want the same file wait, where the file system has locks.

    Without locks they all render, and the last to finish replaces the file by the same bytes.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock").open("w")
    except OSError as error:
        want = "want a folder that can be written; correct cache"
        raise BadInput(f"got cache folder {path.parent} ({error.strerror}): {want}") from error
    with lock:
        with suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fill(path: Path, dtype: np.dtype, count: int, *, title: str, render: Callable[[int], np.ndarray]) -> None:
    """Writes all records into one file, and then its checksum."""
    with whole(path) as new, new.open("xb") as file:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
        np.lib.format.write_array_header_1_0(file, header)
        for index in Bar(range(count), desc=title, unit="scene"):
            file.write(render(index).tobytes())
    write_text(_mark(path), checksum(path))
