"""Frozen features of one labelled set, image by image and patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.errors import BadInput
from evals.datasets.labelled_set import LabelledSet
from evals.features.matrix import PickedRows, Rows


@dataclass(frozen=True)
class FeatureSet:
    """Features of one set in its order; masks and depth stay in `dataset`, to be read one at a time.

    `tokens` holds the patches of the images one after the other, row-major in each; `starts` says where those of an
    image begin and `grids` how many they are, (h, w). These are None where patches were not kept. All rows are
    float32 on the CPU.
    """

    dataset: LabelledSet
    keys: tuple[str, ...]
    pooled: Rows  # [n D]
    mean: Rows  # [n D], of the patches
    tokens: Rows | None  # [T D]
    lengths: Rows | None  # [T 1], of the patches before the final norm
    grids: Int[Tensor, "n 2"] | None
    starts: Int[Tensor, " n"] | None
    square: bool = False  # every image was square, so that both layouts show the backbone the same pixels

    @classmethod
    def in_memory(
        cls,
        dataset: LabelledSet,
        pooled: Float[Tensor, "n D"],
        *,
        mean: Float[Tensor, "n D"] | None = None,
        tokens: Float[Tensor, "T D"] | None = None,
        grids: Int[Tensor, "n 2"] | None = None,
    ) -> FeatureSet:
        """From tensors, patches in the order of the images; `mean` stands in for `pooled` where it is not given."""
        keys = tuple(dataset.key(i) for i in range(len(dataset)))
        lengths = None if tokens is None else torch.linalg.vector_norm(tokens, dim=1, keepdim=True)
        return cls(dataset, keys, pooled, pooled if mean is None else mean, tokens, lengths, grids, _starts(grids))

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def labels(self) -> Int[Tensor, " n"]:
        """Image classes. Raises BadInput where the set has none."""
        if not self.dataset.classes:
            raise BadInput(
                f"got {self.dataset.name} ({self.dataset.split}) without image classes: want a set with them; "
                "do name another set"
            )
        return torch.tensor([self.dataset.label(i) for i in range(len(self))], dtype=torch.long)

    def dense(self) -> Rows:
        """All patches. Raises BadInput where they were not kept."""
        if self.tokens is None:
            raise BadInput("got features without patches: want dense features; do extract with dense=True")
        return self.tokens

    def grid(self, index: int) -> tuple[int, int]:
        """Rows and columns of the patches of an image."""
        self.dense()
        height, width = _known(self.grids)[index].tolist()
        return height, width

    def patches(self, index: int) -> Float[Tensor, "P D"]:
        """The patches of an image, row-major."""
        height, width = self.grid(index)
        start = int(_known(self.starts)[index])
        return self.dense()[start : start + height * width]

    def rows(self) -> Int[np.ndarray, " T"]:
        """Where the patches lie in `tokens`, image by image in the set's order and row-major in each."""
        self.dense()
        starts, sizes = _known(self.starts).numpy(), _known(self.grids).numpy().prod(1)
        before = np.cumsum(sizes) - sizes
        return np.repeat(starts - before, sizes) + np.arange(sizes.sum())

    def order(self) -> list[int]:
        """The images in the order in which their patches lie in `tokens`."""
        self.dense()
        return torch.argsort(_known(self.starts), stable=True).tolist()

    def select(self, images: Sequence[int], dataset: LabelledSet) -> FeatureSet:
        """Some of the images, which `dataset` holds in this order."""
        index = np.asarray(images)
        picked = replace(
            self,
            dataset=dataset,
            keys=tuple(self.keys[i] for i in images),
            pooled=PickedRows(self.pooled, index),
            mean=PickedRows(self.mean, index),
        )
        if self.tokens is None or self.lengths is None:
            return picked
        some = replace(picked, grids=_known(self.grids)[index], starts=_known(self.starts)[index])
        rows = some.rows()
        return replace(
            some,
            tokens=PickedRows(self.tokens, rows),
            lengths=PickedRows(self.lengths, rows),
            starts=_starts(some.grids),
        )


def _known(x: Tensor | None) -> Tensor:
    assert x is not None, "grids and starts come with the tokens"
    return x


def _starts(grids: Tensor | None) -> Tensor | None:
    return None if grids is None else grids.prod(1).cumsum(0) - grids.prod(1)
