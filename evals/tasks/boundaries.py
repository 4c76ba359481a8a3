"""Linear boundaries on cached patch features: whether a line between two parts of a scene runs through a patch.

A boundary is a line of no width, and a patch is one vector: at the pixels one would measure how maps are enlarged and
how far off a line may lie (the matching of the Berkeley benchmark, Martin, Fowlkes, Malik, PAMI 2004), not what the
vector knows. So whole cells are told apart, and their order is judged by average precision, which needs no threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.bounds import About, Count, Positive
from common.errors import BadInput
from common.progress import Bar
from common.schema import settings
from common.spread import spread
from evals.datasets.labelled_set import LabelledSet, Needs
from evals.features.feature_set import FeatureSet
from evals.features.scale import fit_scale
from evals.features.view import cells
from evals.fitting.softmax import solve
from evals.protocols.protocol import Protocol, Watch
from evals.results.table import Outcomes


@settings
class QuickBoundaries(Protocol):
    """Logistic regression on standardised patches: whether the pixels of the patch's cell are of several parts.

    Input: whole images, short side `size`, aspect kept, sides rounded to a multiple of the stride. L-BFGS on the mean
    cross-entropy of two classes + l2/2 · |W|² (l2/4 · |w|² of their difference w), over at most `max_patches` evenly
    spread patches. Average precision over the patches of an image, then the mean over images that have cells of both
    kinds.
    """

    method: ClassVar[str] = "boundaries"
    task: ClassVar[str] = "boundaries"
    needs: ClassVar[Needs] = "parts"

    l2: Annotated[Positive, About("penalty on the squared weights, halved")]
    iterations: Annotated[Count, About("of L-BFGS, at most")]
    max_patches: Annotated[Count, About("training patches, at most, evenly spread")]


def metrics(_: QuickBoundaries) -> tuple[str, ...]:
    """The names of its metrics, the leading one first."""
    return ("boundary_ap",)


def evaluate(
    protocol: QuickBoundaries,
    train: FeatureSet,
    test: FeatureSet,
    *,
    device: str | torch.device = "cpu",
    watch: Watch | None = None,
) -> dict[str, np.ndarray]:
    """Per test image with cells of both kinds: `boundary_ap`, and the numbers `cells` and `boundary_cells`, [n] each.

    Args:
        watch: also told the probability [h w] of a boundary in each cell of every test image.

    Raises:
        BadInput: a set without parts, or one in which all cells are alike.
    """
    x, holds = training_patches(train, most=protocol.max_patches)
    scale = fit_scale(x)
    x = scale.in_place(x).to(device)
    shares = torch.from_numpy(np.stack([~holds, holds], 1)).to(x)
    weight, bias = solve(x, shares, l2=protocol.l2, iterations=protocol.iterations)
    del x
    slope, offset = weight[:, 1] - weight[:, 0], bias[1] - bias[0]
    found: dict[str, list] = {name: [] for name in ("keys", "boundary_ap", "cells", "boundary_cells")}
    for index in Bar(range(len(test)), desc="boundaries", unit="image"):
        scores = (scale(test.patches(index)).to(device) @ slope + offset).cpu()
        if watch:
            watch(index, scores.sigmoid().reshape(test.grid(index)).numpy())
        seen, truth = boundary_cells(test.dataset.surfaces(index).parts, test.grid(index))
        if truth.all() or not truth.any():
            continue
        ours = (test.dataset.key(index), average_precision(scores.numpy()[seen], truth), len(truth), truth.sum())
        for values, value in zip(found.values(), ours, strict=True):
            values.append(value)
    if not found["keys"]:
        raise _all_alike(test.dataset)
    return {name: np.array(values) for name, values in found.items()}


def notes(dataset: LabelledSet, outcomes: Outcomes) -> Iterator[str]:
    """What an order by chance would get, about, and how many images have no cell to be told from another."""
    share = (outcomes["boundary_cells"] / outcomes["cells"]).mean()
    yield f"a boundary runs through {share:.2%} of the cells of an image: about what an order by chance gets"
    if without := len(dataset) - len(outcomes["keys"]):
        yield f"images with a boundary in no cell, or in every one, are left out: {without}"


def training_patches(train: FeatureSet, *, most: int) -> tuple[Float[Tensor, "n D"], Bool[np.ndarray, " n"]]:
    """At most `most` evenly spread patches whose cell has a pixel, and whether a boundary runs through it.

    Raises:
        BadInput: a boundary runs through all of the cells, or none.
    """
    pairs = [boundary_cells(train.dataset.surfaces(i).parts, train.grid(i)) for i in range(len(train))]
    seen, holds = (np.concatenate(x) for x in zip(*pairs, strict=True))
    chosen = np.asarray(spread(range(len(holds)), most))
    holds = holds[chosen]
    if holds.all() or not holds.any():
        raise _all_alike(train.dataset)
    return train.dense()[train.rows()[np.flatnonzero(seen)[chosen]]], holds


def boundary_cells(parts: np.ndarray, grid: tuple[int, int]) -> tuple[Bool[np.ndarray, " P"], Bool[np.ndarray, " s"]]:
    """Which patches have a pixel in their cell, and of these, whether the pixels are of more than one part.

    A cell is what of the image lies under the patch: the pixels whose centres do. A line between two parts runs
    through it where pixels on both sides of the line are in it; one that runs along the border of two cells, with each
    part in a cell of its own, is in neither. Patches outnumber pixels only where a picture is enlarged beyond that.
    """
    cell = cells((parts.shape[0], parts.shape[1]), grid).astype(np.int64)
    kinds = np.bincount(np.unique(cell * 256 + parts) // 256, minlength=grid[0] * grid[1])
    return kinds > 0, kinds[kinds > 0] > 1


def average_precision(scores: Float[np.ndarray, " n"], truth: Bool[np.ndarray, " n"]) -> float:
    """Σ (R_k − R_{k−1}) · P_k over falling thresholds k, precision and recall of what scores at least as high.

    Equal scores pass a threshold together. `truth` holds somewhere.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # of those with one score
    right, taken = np.cumsum(truth[order])[last], np.flatnonzero(last) + 1
    return float((np.diff(right, prepend=0) * right / taken).sum() / right[-1])


def _all_alike(dataset: LabelledSet) -> BadInput:
    got = f"got a boundary between parts in none of the cells of {dataset.name} ({dataset.split}), or in all"
    return BadInput(f"{got}: want some of both; do change the input size, or check its surfaces")
