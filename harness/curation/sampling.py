"""Balanced hierarchical sampling: from the top level down every cluster gets an equal share, as far as it has images.

arXiv 2405.15613: at each node the cap n is found for which Σ min(n, |child|) comes closest to the target; each child
gets min(n, |child|) and shares it out among its own children in the same way. A cluster of level 1 gives that many of
its images, drawn or nearest to its centroid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from common.draws import philox
from common.ranks import Ranks
from harness.curation.duplicates import Dropped
from harness.curation.hierarchy import Hierarchy
from harness.curation.lowest import BLOCK, Points, lowest
from harness.curation.settings import Clustering
from harness.curation.stages import save, stage


def capped(sizes: Int[np.ndarray, " c"], target: int) -> Int[np.ndarray, " c"]:
    """min(n, size) for the n whose sum comes closest to the target; of two equally close ones the smaller."""
    low, high = 0, int(sizes.max(initial=0))
    while low < high:  # the largest n whose sum is not above the target
        middle = (low + high + 1) // 2
        if np.minimum(sizes, middle).sum() <= target:
            low = middle
        else:
            high = middle - 1
    below, above = np.minimum(sizes, low), np.minimum(sizes, low + 1)
    return above if above.sum() - target < target - below.sum() else below


def quotas(
    sizes: Int[np.ndarray, " k"], parents: list[Int[np.ndarray, " k"]], target: int, *, seed: int
) -> Int[np.ndarray, " k"]:
    """How many images each cluster of level 1 gives.

    Args:
        sizes: images in each cluster of level 1.
        parents: for each level, from the first on, the cluster above each cluster; the top level's are all 0.
    """
    counted = [sizes]
    for above in parents[:-1]:
        counted.append(np.bincount(above, weights=counted[-1], minlength=above.max() + 1).astype(int))
    wanted = np.array([target])
    for level in reversed(range(len(parents))):
        given = np.zeros(len(counted[level]), int)
        order = np.argsort(parents[level], kind="stable")
        ends = np.searchsorted(parents[level][order], np.arange(len(wanted) + 1))
        for node, share in enumerate(wanted.tolist()):
            children = order[ends[node] : ends[node + 1]]
            own = capped(counted[level][children], share)
            if share and not own.any():  # even one of each child is too many: some of them give one
                held = np.flatnonzero(counted[level][children])
                drawn = philox(seed, level, "curation/children", node).permutation(held)[:share]
                own = np.isin(np.arange(len(children)), drawn).astype(int)
            given[children] = own
        wanted = given
    return wanted


@dataclass(frozen=True)
class Sampled:
    """Images that were sampled, ascending, and how many images each level-1 cluster has without near-duplicates."""

    images: Int[np.ndarray, " s"]
    sizes: Int[np.ndarray, " k"]


def sample(
    hierarchy: Hierarchy,
    dropped: Dropped,
    settings: Clustering,
    *,
    seed: int,
    home: Path,
    after: str,
    ranks: Ranks,
) -> Sampled:
    """The balanced sample of what is left of a pool; all of it where that is no more than the target.

    Args:
        after: address of the stage that found what is dropped.
    """

    def make(new: Path) -> None:
        sizes = hierarchy.levels[0].array("sizes") - np.bincount(
            members_of(hierarchy, dropped.images), minlength=hierarchy.clusters(1)
        )
        found = np.empty(0, int)
        if settings.target is not None and ranks.first:
            parents = [hierarchy.parents(level) for level in range(1, len(hierarchy.levels) + 1)]
            quota = quotas(sizes, parents, settings.target, seed=seed)
            scored = _scored(hierarchy, dropped, closest=settings.members == "closest", seed=seed)
            found = np.sort(lowest(scored, quota).indices)
        save(new, ranks, images=found, sizes=sizes)

    about = [hierarchy.levels[-1].address, after, settings.target, settings.members, seed]
    done = stage(home, "sample", about, ranks=ranks, make=make)
    return Sampled(done.array("images"), done.array("sizes"))


def members_of(hierarchy: Hierarchy, images: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
    """The level-1 clusters of some images, which ascend."""
    found = np.empty(len(images), int)
    for start in range(0, len(hierarchy.members), BLOCK):
        low, high = np.searchsorted(images, [start, start + BLOCK])
        found[low:high] = hierarchy.members[start : start + BLOCK][images[low:high] - start]
    return found


def _scored(hierarchy: Hierarchy, dropped: Dropped, *, closest: bool, seed: int) -> Iterator[Points]:
    """Images that may be sampled, block by block, each with what says in which order those of a cluster are taken."""
    for number, start in enumerate(range(0, len(hierarchy.members), BLOCK)):
        members = hierarchy.members[start : start + BLOCK]
        left = np.flatnonzero(~dropped.among(start, len(members)))
        drawn = philox(seed, number, "curation/members").random(len(members))
        scores = hierarchy.apart[start : start + BLOCK] if closest else drawn
        yield Points(members[left], scores[left], start + left)
