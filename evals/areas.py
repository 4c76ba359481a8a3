"""Predicted pixel classes judged against masks: the areas that every measure of segmentation is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from tqdm import tqdm

from evals import mmseg_bridge
from evals.datasets.base import IGNORE, LabelledSet
from evals.errors import BadInput
from evals.protocol import Watch

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
    for index, guess in tqdm(guesses, desc=title, total=len(dataset), unit="image", disable=None, leave=False):
        mask = dataset.mask(index)
        found = guess((mask.shape[0], mask.shape[1]))
        intersect[index], predicted[index], truth[index] = mmseg_bridge.intersect_and_union(
            found, mask, num_classes=classes, ignore_index=IGNORE
        )
        if watch:
            watch(index, found)
    keys = np.array([dataset.key(index) for index in range(len(dataset))])
    return {"keys": keys, "intersect": intersect, "predicted": predicted, "truth": truth}


def same_segments(train: LabelledSet, test: LabelledSet) -> int:
    """The number of pixel classes that two sets have in common.

    Raises:
        BadInput: a set without pixel classes, or unlike lists of them.
    """
    for dataset in (train, test):
        if not dataset.segments:
            raise BadInput(f"got {dataset.name} without pixel classes: want masks; do name another set")
    if train.segments != test.segments:
        raise BadInput(
            f"got unlike pixel classes in {train.name} ({len(train.segments)}) and {test.name} ({len(test.segments)}): "
            "want one list; do take splits of one data set"
        )
    return len(train.segments)
