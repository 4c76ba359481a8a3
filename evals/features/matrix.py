"""Matrices that need not fit in memory: rows of a file, read a block or a selection at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

BYTES = 4  # of a float32


class Rows(Protocol):
    """A float32 matrix on the CPU: a tensor, or one of the classes below; slices and index arrays give tensors."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, which: slice | Tensor | np.ndarray, /) -> Tensor: ...


@dataclass(frozen=True)
class DiskRows:
    """Rows of a headerless float32 file. Each access reads what it asks for and keeps nothing mapped."""

    path: Path
    shape: tuple[int, int]

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, which: slice | Tensor | np.ndarray) -> Float[Tensor, "r D"]:
        width = self.shape[1]
        if isinstance(which, slice):
            start, stop, step = which.indices(len(self))
            if step == 1:
                count = max(stop - start, 0) * width
                flat = np.fromfile(self.path, dtype="<f4", count=count, offset=start * width * BYTES)
                return torch.from_numpy(flat.reshape(-1, width))
        chosen = _indices(which, len(self))
        if not len(chosen):
            return torch.empty(0, width)
        mapped = np.memmap(self.path, dtype="<f4", mode="r", shape=self.shape)
        return torch.from_numpy(np.array(mapped[chosen]))


@dataclass(frozen=True)
class PickedRows:
    """A selection of rows, in the order of `index`."""

    base: Rows
    index: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.index), self.base.shape[1]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, which: slice | Tensor | np.ndarray) -> Float[Tensor, "r D"]:
        return self.base[self.index[_indices(which, len(self))]]


def blocks(rows: Rows, size: int) -> Iterator[tuple[int, Float[Tensor, "r D"]]]:
    """Every row once, from front to back: (number of the first, at most `size` of them)."""
    for start in range(0, len(rows), size):
        yield start, rows[start : start + size]


class Sink:
    """Takes rows at any place, in any order, into a file or, without a path, into memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[bytes] | None = path.open("wb") if path else None
        self._parts: dict[int, Tensor] = {}
        self._shape = (0, 0)

    def put(self, place: int, rows: Float[Tensor, "r D"]) -> None:
        """Rows `place` to `place` + r of the matrix."""
        self._shape = (max(self._shape[0], place + len(rows)), rows.shape[1])
        if self._file:
            self._file.seek(place * rows.shape[1] * BYTES)
            self._file.write(rows.contiguous().numpy().astype("<f4", copy=False).tobytes())
        else:
            self._parts[place] = rows

    def close(self) -> None:
        """Let go of the file; nothing can be put any more."""
        if self._file:
            self._file.close()

    def rows(self) -> Rows:
        """All that was put; every row must have been. Closes the sink."""
        self.close()
        if self._path:
            return DiskRows(self._path, self._shape)
        return torch.cat([self._parts[place] for place in sorted(self._parts)])


def _indices(which: slice | Tensor | np.ndarray, count: int) -> np.ndarray:
    if isinstance(which, slice):
        return np.arange(*which.indices(count))
    chosen = np.asarray(which)
    return np.flatnonzero(chosen) if chosen.dtype == bool else chosen
