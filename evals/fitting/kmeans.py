"""k-means on several small groups of points at once or on one large group: seeded, deterministic, in blocks of points.

Lloyd's rounds from k-means++ starts (Arthur & Vassilvitskii, SODA 2007). Each group draws from a generator of its own,
keyed by the seed, a purpose and its number, so that its result does not depend on which groups are clustered beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.draws import pcg64
from common.errors import BadInput

CELLS_PER_BLOCK = 1 << 24  # point-centroid distances held at once
ROUNDING = 1e-6  # of the squared norms: smaller squared distances are float32's noise


class Clusters(NamedTuple):
    """A partition of each group: the nearest centroid of every point, the centroids, the sum of squared distances."""

    members: Int[Tensor, "G n"]
    centroids: Float[Tensor, "G k d"]
    inertia: Float[Tensor, " G"]


def kmeans(
    x: Float[Tensor, "G n d"],
    clusters: int,
    *,
    rounds: int,
    seed: int,
    restarts: int = 1,
    purpose: str = "k-means",
    first: int = 0,
) -> Clusters:
    """For each group the best of `restarts` runs, by inertia.

    Args:
        rounds: most updates of the centroids; a run ends earlier once no point changes its cluster.
        purpose, first: key the draws of a group, by its number counted from `first`; unlike purposes share none.

    Raises:
        BadInput: more clusters than points, or a count below one.
    """
    if min(clusters, rounds, restarts) < 1 or clusters > x.shape[1]:
        raise BadInput(
            f"got {clusters} clusters, {rounds} rounds, {restarts} restarts for {x.shape[1]} points: want at least one "
            "of each and no more clusters than points; do change the settings or use larger inputs"
        )
    centre = x.mean(1, keepdim=True)  # a far-off centre would cost the distances their digits
    x = x - centre
    best: Clusters | None = None
    for restart in range(restarts):
        key = f"{purpose}, run {restart}"
        draws = [pcg64(seed, key, first + group).random(clusters) for group in range(len(x))]
        found = lloyd(x, plus_plus(x, torch.from_numpy(np.stack(draws)).to(x.device)), rounds=rounds)
        best = found if best is None else _better(best, found)
    assert best is not None, "there is at least one restart"
    return best._replace(centroids=best.centroids + centre)


def plus_plus(x: Float[Tensor, "G n d"], draws: Float[Tensor, "G k"]) -> Float[Tensor, "G k d"]:
    """k-means++ starts: the next one is a point, drawn with chances as its squared distance to the nearest so far.

    `draws` are uniform on [0, 1). Where every point is a start already, all points are equally likely.
    """
    groups, squares = torch.arange(len(x), device=x.device), x.square().sum(2)
    distance = torch.ones_like(squares)
    chosen: list[Tensor] = []
    for draw in draws.double().T:
        mass = distance.double().cumsum(1)
        mass = torch.where(mass[:, -1:] > 0, mass, torch.ones_like(mass).cumsum(1))
        # the first place whose cumulated mass exceeds the drawn one: never a point without mass
        place = torch.searchsorted(mass, (draw * mass[:, -1])[:, None], right=True)[:, 0].clamp_max(x.shape[1] - 1)
        start, square = x[groups, place], squares[groups, place, None]
        apart = squares - 2 * torch.bmm(x, start[..., None])[..., 0] + square
        apart = torch.where(apart > ROUNDING * (squares + square), apart, 0)
        distance = torch.minimum(distance, apart) if chosen else apart
        chosen.append(start)
    return torch.stack(chosen, 1)


def lloyd(x: Float[Tensor, "G n d"], start: Float[Tensor, "G k d"], *, rounds: int) -> Clusters:
    """At most `rounds` updates of the centroids from `start`.

    A cluster that loses its last point moves to the point farthest from its centroid; where no point is off its
    centroid (fewer distinct points than clusters) it stays empty.
    """
    centroids, step = start, _assign(x, start)
    for _ in range(rounds):
        means = step.sums / step.counts.clamp_min(1)[..., None]
        centroids = torch.where((step.counts > 0)[..., None], means, centroids)
        if not step.counts.all():
            centroids = _refill(x, centroids, step)
        following = _assign(x, centroids)
        settled = torch.equal(following.members, step.members)
        step = following
        if settled:
            break
    return Clusters(step.members, centroids, step.apart.double().sum(1))


def nearest(x: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """The nearest centroid of every point."""
    return torch.cat([scores.argmin(2)[0] for _, scores in _scores(x[None], centroids[None])])


class _Step(NamedTuple):
    members: Int[Tensor, "G n"]
    apart: Float[Tensor, "G n"]  # squared distance to the own centroid
    sums: Float[Tensor, "G k d"]
    counts: Int[Tensor, "G k"]


def _assign(x: Tensor, centroids: Tensor) -> _Step:
    sums, counts = torch.zeros_like(centroids), torch.zeros(centroids.shape[:2], dtype=torch.long, device=x.device)
    members, aparts = [], []
    for block, scores in _scores(x, centroids):
        score, member = scores.min(2)
        # a product, since adding at indices is not deterministic on every device
        own = torch.nn.functional.one_hot(member, centroids.shape[1])
        sums += own.mT.to(x.dtype) @ block
        counts += own.sum(1)
        squares = block.square().sum(2)
        apart = score + squares
        aparts.append(torch.where(apart > ROUNDING * squares, apart, 0))
        members.append(member)
    return _Step(torch.cat(members, 1), torch.cat(aparts, 1), sums, counts)


def _scores(x: Tensor, centroids: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of points, each with its squared distances to the centroids less the points' own squared norms."""
    squares = centroids.square().sum(2)[:, None]
    size = max(CELLS_PER_BLOCK // (len(x) * centroids.shape[1]), 1)
    for start in range(0, x.shape[1], size):
        block = x[:, start : start + size]
        yield block, torch.baddbmm(squares, block, centroids.mT, alpha=-2)


def _refill(x: Tensor, centroids: Tensor, step: _Step) -> Tensor:
    centroids = centroids.clone()
    for group in (~step.counts.all(1)).nonzero()[:, 0].tolist():
        empty = (step.counts[group] == 0).nonzero()[:, 0]
        apart, farthest = step.apart[group].topk(len(empty))
        centroids[group, empty[apart > 0]] = x[group, farthest[apart > 0]]
    return centroids


def _better(one: Clusters, other: Clusters) -> Clusters:
    wins = other.inertia < one.inertia
    pairs = zip(one, other, strict=True)
    return Clusters(*(torch.where(wins.reshape(-1, *[1] * (b.ndim - 1)), b, a) for a, b in pairs))
