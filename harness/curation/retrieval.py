"""Retrieval: the images of a pool that are nearest to those of a seed set, found exactly by faiss, block by block.

DINOv2 (arXiv 2304.07193, §3) builds a part of its training set so: each image of a curated set brings in its nearest
neighbours of an uncurated pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from common.errors import BadInput
from common.ranks import Ranks
from evals.datasets.catalogue import KINDS
from evals.datasets.settings import Set
from harness.curation.duplicates import Dropped
from harness.curation.embeddings import Embeddings
from harness.curation.lowest import Points, lowest
from harness.curation.stages import save, stage
from harness.data.pool import Pool

BLOCK = 1 << 14  # images that are searched together


@dataclass(frozen=True)
class Retrieved:
    """Images that were retrieved, ascending, the seed that each is nearest to, and their cosine."""

    images: Int[np.ndarray, " r"]
    seeds: Int[np.ndarray, " r"]
    cosines: Float[np.ndarray, " r"]


def retrieve(
    images: Embeddings,
    seeds: Float[np.ndarray, "q D"],
    neighbours: int,
    dropped: Dropped,
    *,
    home: Path,
    after: str,
    ranks: Ranks,
) -> Retrieved:
    """The union of the nearest neighbours of all seeds, near-duplicates left aside.

    Args:
        after: an address of the seeds and of the stage that found what is dropped.
    """

    def make(new: Path) -> None:
        quota = np.full(len(seeds), neighbours)
        own = lowest(_near(images, seeds, neighbours, dropped, ranks), quota)
        found = lowest(ranks.gathered(own), quota)
        order = np.lexsort((found.groups, found.scores, found.indices))
        numbers, first = np.unique(found.indices[order], return_index=True)
        save(new, ranks, images=numbers, seeds=found.groups[order][first], cosines=-found.scores[order][first])

    done = stage(home, "retrieval", [images.address, after, neighbours], ranks=ranks, make=make)
    return Retrieved(done.array("images"), done.array("seeds"), done.array("cosines"))


def _near(images: Embeddings, seeds: np.ndarray, neighbours: int, dropped: Dropped, ranks: Ranks) -> Iterator[Points]:
    """The nearest of each block: the seed, less the cosine, the image."""
    for number in ranks.own(-(-len(images) // BLOCK)):
        start = number * BLOCK
        rows = images[start : start + BLOCK].numpy()
        left = np.flatnonzero(~dropped.among(start, len(rows)))
        if not len(left):
            continue
        k = min(neighbours, len(left))
        cosines, found = faiss.knn(seeds, rows[left], k, metric=faiss.METRIC_INNER_PRODUCT)
        yield Points(np.repeat(np.arange(len(seeds)), k), -cosines.ravel().astype(float), start + left[found.ravel()])


def refuse_unlike(seeds: Pool, pool: Pool, sets: dict[str, Set], seed_sets: dict[str, Set]) -> None:
    """Refuse seeds of which none is in a format that the pool has: their neighbours would be told by the format."""
    mine, theirs = _formats(seeds, seed_sets), _formats(pool, sets)
    if not mine & theirs:
        names = [", ".join(sorted(one, key=lambda name: (-one[name], name))) for one in (mine, theirs)]
        want = "want a format in common, or neighbours are found by it"
        raise BadInput(f"got seeds in {names[0]} for a pool in {names[1]}: {want}; convert the seeds")


def _formats(pool: Pool, sets: dict[str, Set]) -> Counter[str]:
    known = Image.registered_extensions()
    found = Counter[str]()
    for index in range(len(pool)):
        rendered = KINDS[sets[pool.source(index)].kind].rendered
        suffix = Path(pool.key(index)).suffix.lower()
        found["rendered scenes" if rendered else known.get(suffix, suffix or "no format")] += 1
    return found
