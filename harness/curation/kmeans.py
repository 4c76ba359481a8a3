"""k-means over more points than fit in memory, by one process or several: read block by block, the same to the bit.

Lloyd's rounds from a k-means++ start (Arthur & Vassilvitskii, SODA 2007), as in hierarchical clustering for data
curation (arXiv 2405.15613). Points lie on a grid (`embeddings`), so that the float64 sums of a cluster are exact and do
not depend on who added what; blocks begin at fixed rows, so that distances do not either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.draws import pcg64, philox
from common.ranks import Ranks
from evals.features.matrix import Rows
from evals.fitting.kmeans import plus_plus
from evals.fitting.nearest import GRID
from harness.curation.lowest import Points, lowest

CELLS = 1 << 24  # distances held at once
START = 64  # points a cluster that a k-means++ start is drawn from
FEWEST = 1 << 14  # and at least so many, or all
FAR = 64  # points farthest from their centroids that empty clusters may move to


class Block(NamedTuple):
    """Some points, the number of the first, the nearest centroid of each, and the squared distance to it."""

    start: int
    points: Float[Tensor, "b D"]
    members: Int[Tensor, " b"]
    apart: Float[Tensor, " b"]  # float64, on the grid


class Means(NamedTuple):
    """One round's new centroids, the sizes of the clusters and the sum of squared distances to the old centroids."""

    centroids: Float[Tensor, "k D"]
    counts: Int[Tensor, " k"]
    inertia: float


def on_grid(x: Tensor) -> Tensor:
    """Rounded to multiples of 1/GRID."""
    return (x * GRID).round() / GRID


def kmeans(
    x: Rows, clusters: int, *, rounds: int, seed: int, purpose: str, ranks: Ranks, device: torch.device
) -> Float[Tensor, "k D"]:
    """Centroids on the grid; fewer distinct points than clusters leave some of them without members."""
    centroids = ranks.agreed(_start(x, clusters, seed=seed, purpose=purpose).cpu()).to(device)
    for _ in range(rounds):
        following = means(x, centroids, ranks=ranks).centroids
        if torch.equal(following, centroids):
            break
        centroids = following
    return centroids


def resampled(
    x: Rows,
    centroids: Float[Tensor, "k D"],
    closest: int,
    *,
    rounds: int,
    seed: int,
    purpose: str,
    ranks: Ranks,
) -> Float[Tensor, "k D"]:
    """k-means anew on the `closest` points of each cluster alone, so that dense regions count no more than others."""
    found = lowest(
        (Points(b.members.cpu().numpy(), b.apart.cpu().numpy(), _numbers(b)) for b in assigned(x, centroids, ranks)),
        quota := np.full(len(centroids), closest),
    )
    some = lowest(ranks.gathered(found), quota).indices
    points = x[np.sort(some)]
    clusters = min(len(centroids), len(points))
    return kmeans(points, clusters, rounds=rounds, seed=seed, purpose=purpose, ranks=ranks, device=centroids.device)


def assigned(x: Rows, centroids: Float[Tensor, "k D"], ranks: Ranks) -> Iterator[Block]:
    """This process's blocks of the points with their nearest centroids, the lower number among equals."""
    size = max(min(CELLS // max(centroids.shape), 1 << 14), 1)
    squares = centroids.square().sum(1)
    for number in ranks.own(-(-len(x) // size)):
        points = x[number * size : (number + 1) * size].to(centroids.device)
        score, members = torch.addmm(squares, points, centroids.T, alpha=-2).min(1)
        apart = on_grid((score + points.square().sum(1)).double().clamp_min(0))
        yield Block(number * size, points, members, apart)


def means(x: Rows, centroids: Float[Tensor, "k D"], *, ranks: Ranks) -> Means:
    """One round: every point to its nearest centroid, every centroid to the mean of its points.

    A cluster without points moves to one of those farthest from their centroids.
    """
    k, device = len(centroids), centroids.device
    sums = torch.zeros(centroids.shape, dtype=torch.float64, device=device)
    counts, inertia = torch.zeros(k, dtype=torch.long, device=device), torch.zeros((), dtype=torch.float64)
    far = Points(np.empty(0, int), np.empty(0), np.empty(0, int))
    for block in assigned(x, centroids, ranks):
        sums.index_add_(0, block.members, block.points.double())  # exact, so in any order
        counts += block.members.bincount(minlength=k)
        inertia += block.apart.sum().cpu()
        far = _farthest([far, _as_one_group(block)])
    for mine in (sums, counts, inertia):
        ranks.reduced(mine, "sum")
    following = torch.where((counts > 0)[:, None], on_grid(sums / counts.clamp_min(1)[:, None]).float(), centroids)
    empty = (counts == 0).nonzero()[:, 0].cpu()
    if len(empty):
        far = _farthest(ranks.gathered(far))
        there = far.indices[far.scores < 0][: len(empty)]
        following[empty[: len(there)].to(device)] = x[there].to(device)
    return Means(following, counts, inertia.item())


def assign(
    x: Rows, centroids: Float[Tensor, "k D"], keep: Callable[[int, np.ndarray, np.ndarray], None], *, ranks: Ranks
) -> Int[np.ndarray, " k"]:
    """Hands `keep` (first point, members, squared distances) of each block; returns the clusters' sizes."""
    counts = torch.zeros(len(centroids), dtype=torch.long)
    for block in assigned(x, centroids, ranks):
        members = block.members.cpu()
        counts += members.bincount(minlength=len(centroids))
        keep(block.start, members.numpy(), block.apart.cpu().numpy())
    return ranks.reduced(counts, "sum").numpy()


def _start(x: Rows, clusters: int, *, seed: int, purpose: str) -> Float[Tensor, "k D"]:
    """k-means++ on as many points as fit in memory, drawn without replacement."""
    few = min(len(x), max(START * clusters, FEWEST))
    if few < len(x):
        points = x[np.sort(philox(seed, 0, f"{purpose}/points").choice(len(x), few, replace=False, shuffle=False))]
    else:
        points = x[: len(x)]
    draws = torch.from_numpy(pcg64(seed, f"{purpose}/start").random(clusters))
    return plus_plus(points[None], draws[None])[0]


def _numbers(block: Block) -> np.ndarray:
    return np.arange(block.start, block.start + len(block.points))


def _as_one_group(block: Block) -> Points:
    apart, place = block.apart.topk(min(FAR, len(block.apart)))
    return Points(np.zeros(len(place), int), -apart.cpu().numpy(), block.start + place.cpu().numpy())


def _farthest(parts: list[Points]) -> Points:
    return lowest(parts, np.array([FAR]))
