"""Patches of images that share one grid, read a few images at a time or one patch of every image at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from common.errors import BadInput
from evals.features.feature_set import FeatureSet
from evals.features.matrix import Rows

PATCHES_PER_BLOCK = 8192


@dataclass(frozen=True)
class Patches:
    """Image i has the rows `starts[i]` to `starts[i] + P` of `rows`, row-major on `grid` (P = h · w).

    With `unit`, patches are read at unit length (those of length zero stay zero).
    """

    rows: Rows
    starts: Int[Tensor, " n"]
    grid: tuple[int, int]
    lengths: Rows | None = None  # [T 1], before the final norm
    unit: bool = False

    @classmethod
    def of(cls, features: FeatureSet) -> Patches:
        """Raises BadInput where patches were not kept or grids differ between images."""
        rows, grids = features.dense(), {features.grid(i) for i in range(len(features))}
        if len(grids) != 1 or features.starts is None:
            raise BadInput(
                f"got images of {features.dataset.name} with unlike grids of patches: want one; "
                "do extract with layout 'crop'"
            )
        return cls(rows, features.starts, grids.pop(), features.lengths)

    @classmethod
    def in_memory(cls, tokens: Float[Tensor, "n P D"], grid: tuple[int, int]) -> Patches:
        """Raises BadInput for a grid of another number of patches."""
        images, patches, width = tokens.shape
        if grid[0] * grid[1] != patches:
            raise BadInput(f"got {patches} patches an image: want {grid[0]} x {grid[1]}; do pass their grid")
        rows = tokens.detach().float().cpu().reshape(images * patches, width)
        return cls(rows, torch.arange(images) * patches, grid)

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def count(self) -> int:
        """P, the patches of an image."""
        return self.grid[0] * self.grid[1]

    @property
    def width(self) -> int:
        """D."""
        return self.rows.shape[1]

    def as_units(self) -> Patches:
        """The same patches, read at unit length."""
        return replace(self, unit=True)

    def images(self, which: Sequence[int]) -> Float[Tensor, "b P D"]:
        """All patches of some images."""
        starts = [int(self.starts[i]) for i in which]
        return self._read(torch.stack([self.rows[start : start + self.count] for start in starts]))

    def norms(self) -> Float[Tensor, "n P"]:
        """Norms of the patches before the final norm where they are known, else of the patches as they are."""
        if self.lengths is None:
            return torch.cat([x.norm(dim=2) for _, x in self.blocks()])
        return torch.stack([self.lengths[start : start + self.count][:, 0] for start in self.starts.tolist()])

    def blocks(self) -> Iterator[tuple[slice, Float[Tensor, "b P D"]]]:
        """All images, some at a time."""
        size = max(PATCHES_PER_BLOCK // self.count, 1)
        for start in range(0, len(self), size):
            which = slice(start, min(start + size, len(self)))
            yield which, self.images(range(which.start, which.stop))

    def at(self, places: Int[Tensor, "n q"]) -> Float[Tensor, "q n D"]:
        """q patches of every image, those with the given numbers in 0 .. P - 1."""
        found = self.rows[(self.starts[:, None] + places).T.flatten()]
        return self._read(found.reshape(places.shape[1], len(self), -1))

    def _read(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=-1) if self.unit else x
