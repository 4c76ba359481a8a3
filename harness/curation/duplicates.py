"""Near-duplicates: of images of one cluster that are as good as the same, the first stays.

Images are compared within clusters of level 1 alone, as in SemDeDup (arXiv 2303.09540). In the order of the pool, an
image is dropped where one that stays has at least this cosine with it: so every image that is dropped has such a twin,
and no two that stay are twins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from jaxtyping import Float, Int

from common.ranks import Ranks
from harness.curation.embeddings import Embeddings
from harness.curation.hierarchy import Hierarchy
from harness.curation.lowest import BLOCK
from harness.curation.stages import Stage, save, stage

TOGETHER = 256  # images whose neighbours are looked for at once


@dataclass(frozen=True)
class Dropped:
    """Images that repeat another, ascending, the one that each repeats, and their cosine."""

    images: Int[np.ndarray, " m"]
    twins: Int[np.ndarray, " m"]
    cosines: Float[np.ndarray, " m"]

    def among(self, start: int, count: int) -> np.ndarray:
        """Which of `count` images from this one on are dropped, bool [count]."""
        return among(self.images, start, count)


def among(images: Int[np.ndarray, " m"], start: int, count: int) -> np.ndarray:
    """Which of `count` images from this one on are of these, which ascend: bool [count]."""
    low, high = np.searchsorted(images, [start, start + count])
    found = np.zeros(count, bool)
    found[images[low:high] - start] = True
    return found


def drop(
    images: Embeddings, hierarchy: Hierarchy, cosine: float | None, *, home: Path, ranks: Ranks
) -> tuple[Stage, Dropped]:
    """The near-duplicates of a pool; none where the threshold is None."""

    def make(new: Path) -> None:
        found = _all(images, hierarchy, cosine, ranks) if cosine is not None else np.empty((0, 3))
        found = found[found[:, 0].argsort()]
        save(new, ranks, images=found[:, 0].astype(int), twins=found[:, 1].astype(int), cosines=found[:, 2])

    done = stage(home, "duplicates", [hierarchy.levels[0].address, cosine], ranks=ranks, make=make)
    return done, Dropped(done.array("images"), done.array("twins"), done.array("cosines"))


def _all(images: Embeddings, hierarchy: Hierarchy, cosine: float, ranks: Ranks) -> Float[np.ndarray, "m 3"]:
    own = [np.empty((0, 3))]
    for clusters in _bundles(hierarchy.levels[0].array("sizes"), ranks):
        groups, numbers = _members(hierarchy, clusters)
        for group in clusters:
            mine = numbers[groups == group]
            first, again, similar = twins(images[mine].numpy(), cosine)
            own.append(np.stack([mine[again], mine[first], similar], 1))
    return np.concatenate(ranks.gathered(np.concatenate(own)))


def twins(x: Float[np.ndarray, "m D"], cosine: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that stay, rows that repeat them, and their cosines, each [pairs]; a row repeats one other at most."""
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    repeats, similar = np.full(len(x), -1), np.zeros(len(x))
    for start in range(0, len(x), TOGETHER):
        asked = start + np.flatnonzero(repeats[start : start + TOGETHER] < 0)
        ends, cosines, found = index.range_search(x[asked], cosine)
        for place, row in enumerate(asked.tolist()):
            if repeats[row] >= 0:  # one of the same block stays in its place
                continue
            near = slice(int(ends[place]), int(ends[place + 1]))
            later = (found[near] > row) & (repeats[found[near]] < 0)
            repeats[found[near][later]], similar[found[near][later]] = row, cosines[near][later]
    again = np.flatnonzero(repeats >= 0)
    return repeats[again], again, similar[again]


def _bundles(sizes: Int[np.ndarray, " k"], ranks: Ranks) -> Iterator[range]:
    """This process's clusters in runs of about a block of images, so that the members of few are held at once."""
    runs = (np.cumsum(sizes) - sizes) // BLOCK
    starts = np.flatnonzero(np.diff(runs, prepend=-1))
    ends = [*starts[1:].tolist(), len(sizes)]
    for number in ranks.own(len(starts)):
        yield range(int(starts[number]), ends[number])


def _members(hierarchy: Hierarchy, clusters: range) -> tuple[np.ndarray, np.ndarray]:
    """The images of these clusters: the cluster of each, and its number, ascending."""
    groups, numbers = [], []
    for start in range(0, len(hierarchy.members), BLOCK):
        block = hierarchy.members[start : start + BLOCK]
        mine = np.flatnonzero((block >= clusters.start) & (block < clusters.stop))
        groups.append(block[mine])
        numbers.append(start + mine)
    return np.concatenate(groups), np.concatenate(numbers)
