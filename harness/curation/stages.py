"""Stages of a curation: each is a folder addressed by all that it depends on, there whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.disk import fragment, put
from common.ranks import Ranks
from harness.config import identity


@dataclass(frozen=True)
class Stage:
    """A finished stage; `address` is a hash of its settings and of the stages before it."""

    folder: Path
    address: str

    def array(self, name: str) -> np.ndarray:
        """A small array of it, by its name."""
        return np.load(self.folder / f"{name}.npy", allow_pickle=False)


def stage(home: Path, name: str, about: list[object], *, ranks: Ranks, make: Callable[[Path], None]) -> Stage:
    """The stage of this name about these things, made by all processes together where it is not there yet.

    Args:
        make: fills the new folder; the first process alone writes what is no process's own.
    """
    address = identity(name, *about)
    target = home / f"{name}-{address}"
    if ranks.agreed(target.is_dir()):
        return Stage(target, address)
    with fragment(target) if ranks.first else nullcontext(target) as new:
        place = ranks.agreed(new)
        if ranks.first:
            place.mkdir()
        ranks.wait()
        make(place)
        ranks.wait()
        if ranks.first:
            put(place, target)
    ranks.wait()
    return Stage(target, address)


def save(folder: Path, ranks: Ranks, **arrays: np.ndarray) -> None:
    """Small arrays that all processes hold alike, written once."""
    for name, array in arrays.items() if ranks.first else ():
        np.save(folder / f"{name}.npy", array)


@dataclass(frozen=True)
class Column:
    """One number an image in a headerless file, read a block at a time, so that no process holds all of them."""

    path: Path
    kind: str  # numpy's name of its type, as "<i4"

    def __len__(self) -> int:
        return self.path.stat().st_size // np.dtype(self.kind).itemsize

    def __getitem__(self, which: slice) -> np.ndarray:
        start, stop, _ = which.indices(len(self))
        offset = start * np.dtype(self.kind).itemsize
        return np.fromfile(self.path, dtype=self.kind, count=max(stop - start, 0), offset=offset)

    def create(self, count: int) -> None:
        """A file of that many zeros."""
        with self.path.open("wb") as file:
            file.truncate(count * np.dtype(self.kind).itemsize)

    def put(self, place: int, values: np.ndarray) -> None:
        """Write values from this place on; processes write to places of their own."""
        with self.path.open("r+b") as file:
            file.seek(place * np.dtype(self.kind).itemsize)
            file.write(values.astype(self.kind).tobytes())
