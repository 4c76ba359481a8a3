"""Masks as areas of pixel classes: how much of a patch each fills, and what of it a prediction gets right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.errors import BadInput, listing
from common.progress import Bar
from evals import mmseg_bridge
from evals.datasets.labelled_set import IGNORE, LabelledSet
from evals.features.view import cells
from evals.protocols.protocol import Watch
from evals.results.table import Outcomes

Guess = Callable[[tuple[int, int]], np.ndarray]  # from the shape (H, W) of a mask to classes [H W]


def areas(
    dataset: LabelledSet, guesses: Iterable[tuple[int, Guess]], *, title: str, watch: Watch | None = None
) -> dict[str, np.ndarray]:
    """Per image: right, predicted and true pixels by class, `intersect`, `predicted`, `truth` [n C], and `keys` [n].

    Pixels marked `IGNORE` count nowhere. Areas are those of mmsegmentation's IoUMetric.

    Args:
        guesses: every image once, in any order; what predicts it is called before the next one is asked for.
        watch: also told the predicted classes [H W] of each image.
    """
    classes = len(dataset.segments)
    intersect, predicted, truth = np.zeros((3, len(dataset), classes), np.int64)
    for index, guess in Bar(guesses, desc=title, total=len(dataset), unit="image"):
        mask = dataset.mask(index)
        found = guess((mask.shape[0], mask.shape[1]))
        intersect[index], predicted[index], truth[index] = mmseg_bridge.intersect_and_union(
            found, mask, num_classes=classes, ignore_index=IGNORE
        )
        if watch:
            watch(index, found)
    keys = np.array([dataset.key(index) for index in range(len(dataset))])
    return {"keys": keys, "intersect": intersect, "predicted": predicted, "truth": truth}


def notes(dataset: LabelledSet, outcomes: Outcomes) -> Iterator[str]:
    """Which classes are in none of the judged masks: means over classes are without them, unless they are predicted."""
    absent = [name for name, pixels in zip(dataset.segments, outcomes["truth"].sum(0), strict=True) if not pixels]
    if absent:
        yield f"{len(absent)} of {len(dataset.segments)} classes are in none of these masks ({listing(absent)})"


def same_segments(train: LabelledSet, test: LabelledSet) -> int:
    """The number of pixel classes that two sets have in common.

    Raises:
        BadInput: a set without pixel classes, or unlike lists of them.
    """
    for dataset in (train, test):
        if not dataset.segments:
            raise BadInput(f"got {dataset.name} without pixel classes: want masks; name another set")
    if train.segments != test.segments:
        raise BadInput(
            f"got unlike pixel classes in {train.name} ({len(train.segments)}) and {test.name} ({len(test.segments)}): "
            "want one list; take splits of one data set"
        )
    return len(train.segments)


def no_labels(dataset: LabelledSet) -> BadInput:
    """The error for a set whose masks hold no labelled pixel."""
    return BadInput(f"got no labelled pixel in {dataset.name} ({dataset.split}): want masks with classes; check them")


def labelled(mask: np.ndarray, grid: tuple[int, int]) -> Bool[np.ndarray, " P"]:
    """Which patches hold a labelled pixel."""
    found = np.zeros(grid[0] * grid[1], bool)
    found[cells((mask.shape[0], mask.shape[1]), grid)[mask != IGNORE]] = True
    return found


def shares_of(mask: np.ndarray, grid: tuple[int, int], classes: int) -> Float[np.ndarray, "P C"]:
    """For each patch the share of its pixels that each class has; rows sum to the labelled part of the patch."""
    cell, patches = cells((mask.shape[0], mask.shape[1]), grid), grid[0] * grid[1]
    known = mask != IGNORE
    hits = np.bincount(cell[known] * classes + mask[known], minlength=patches * classes).reshape(patches, classes)
    return (hits / np.maximum(np.bincount(cell.ravel(), minlength=patches), 1)[:, None]).astype(np.float32)


def classes_at(logits: Float[Tensor, "C h w"], shape: tuple[int, int], *, chunk: int = 16) -> Int[Tensor, "H W"]:
    """The class of each pixel at another size: logits go there bilinearly (align_corners False), the largest wins.

    A softmax in between would change no winner. Only `chunk` classes at a time are held at that size, since masks may
    be of many megapixels.
    """
    best = logits.new_full(shape, -torch.inf)
    winner = torch.zeros(shape, dtype=torch.long, device=logits.device)
    for first in range(0, len(logits), chunk):
        part = logits[None, first : first + chunk]
        value, index = F.interpolate(part, size=shape, mode="bilinear", align_corners=False)[0].max(0)
        better = value > best
        best, winner = torch.where(better, value, best), torch.where(better, index + first, winner)
    return winner
