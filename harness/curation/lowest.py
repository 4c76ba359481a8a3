"""The points of lowest score in each group, found in one reading of all points, a block at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

BLOCK = 1 << 16  # rows of the pool that are looked at together


class Points(NamedTuple):
    """Numbers of points, ascending within a group and score, with their groups and scores: arrays of one length."""

    groups: np.ndarray
    scores: np.ndarray
    indices: np.ndarray


def lowest(parts: Iterable[Points], quota: np.ndarray) -> Points:
    """Of each group as many points as its `quota` [groups], those of lowest score, the lower index among equals.

    Holds one block and what may still be among them: the memory does not grow with the number of points.
    """
    held = Points(np.empty(0, int), np.empty(0), np.empty(0, int))
    for part in parts:
        groups, scores, indices = (np.concatenate(pair) for pair in zip(held, part, strict=True))
        order = np.lexsort((indices, scores, groups))
        ordered = groups[order]
        place = np.arange(len(order)) - np.searchsorted(ordered, ordered)
        kept = order[place < quota[ordered]]
        held = Points(groups[kept], scores[kept], indices[kept])
    return held
