"""Hierarchical k-means: level 1 clusters the images, every further level the centroids of the one below.

As in arXiv 2405.15613, with resampling: k-means runs again on the points nearest to the centroids, then all points are
assigned anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.progress import log
from common.ranks import Ranks
from evals.features.matrix import Rows
from harness.curation.embeddings import Embeddings
from harness.curation.kmeans import assign, kmeans, resampled
from harness.curation.settings import Level
from harness.curation.stages import Column, Stage, save, stage

MEMBERS, APART = "members.i32", "apart.f32"


@dataclass(frozen=True)
class Hierarchy:
    """The clusters of every level, the first being that of the images."""

    levels: tuple[Stage, ...]

    @property
    def members(self) -> Column:
        """The level-1 cluster of every image."""
        return Column(self.levels[0].folder / MEMBERS, "<i4")

    @property
    def apart(self) -> Column:
        """The squared distance of every image to the centroid of its level-1 cluster."""
        return Column(self.levels[0].folder / APART, "<f4")

    def parents(self, level: int) -> Int[np.ndarray, " k"]:
        """For each cluster of a level, counted from 1, the cluster above it; those of the top level share one, 0."""
        if level == len(self.levels):
            return np.zeros(self.clusters(level), int)
        return Column(self.levels[level].folder / MEMBERS, "<i4")[:].astype(int)

    def clusters(self, level: int) -> int:
        """How many clusters a level has, counted from 1: those that have members."""
        return len(self.levels[level - 1].array("centroids"))

    def path(self, members: Int[np.ndarray, " b"]) -> Int[np.ndarray, "b L"]:
        """The clusters of every level, from the images upwards, that these level-1 clusters lie in."""
        found = [members.astype(int)]
        for level in range(1, len(self.levels)):
            found.append(self.parents(level)[found[-1]])
        return np.stack(found, 1)


def cluster(
    images: Embeddings,
    levels: Sequence[Level],
    *,
    rounds: int,
    seed: int,
    home: Path,
    ranks: Ranks,
    device: torch.device,
) -> Hierarchy:
    """All levels, those made that are not there."""
    found: list[Stage] = []
    x, below = images, images.address
    for number, level in enumerate(levels, 1):
        about = [below, rounds, seed, level.clusters]
        name = f"level-{number}"
        first = partial(_fresh, x=x, level=level, rounds=rounds, seed=seed, name=name, ranks=ranks, device=device)
        step = stage(home, f"{name}-start", about, ranks=ranks, make=first)
        for again in range(1, level.resamplings + 1):
            make = partial(_again, x=x, step=step, level=level, rounds=rounds, seed=seed, name=f"{name}/{again}",
                           ranks=ranks, device=device)  # fmt: skip
            step = stage(home, f"{name}-again-{again}", [step.address, level.closest], ranks=ranks, make=make)
        last = partial(_assigned, x=x, step=step, ranks=ranks, device=device)
        found.append(stage(home, name, [step.address], ranks=ranks, make=last))
        x, below = torch.from_numpy(found[-1].array("centroids")), found[-1].address
        if ranks.first:
            sizes = found[-1].array("sizes")
            log.info("level %d: %s clusters of %d to %d", number, f"{len(sizes):,}", sizes.min(), sizes.max())
    return Hierarchy(tuple(found))


def _fresh(
    new: Path, *, x: Rows, level: Level, rounds: int, seed: int, name: str, ranks: Ranks, device: torch.device
) -> None:
    clusters = min(level.clusters, len(x))
    purpose = f"curation/{name}"
    found = kmeans(x, clusters, rounds=rounds, seed=seed, purpose=purpose, ranks=ranks, device=device)
    save(new, ranks, centroids=found.cpu().numpy())


def _again(
    new: Path, *, x: Rows, step: Stage, level: Level, rounds: int, seed: int, name: str, ranks: Ranks,
    device: torch.device,
) -> None:  # fmt: skip
    centroids = _centroids(step, device)
    purpose = f"curation/{name}"
    found = resampled(x, centroids, level.closest, rounds=rounds, seed=seed, purpose=purpose, ranks=ranks)
    save(new, ranks, centroids=found.cpu().numpy())


def _assigned(new: Path, *, x: Rows, step: Stage, ranks: Ranks, device: torch.device) -> None:
    """The last assignment of all points; clusters without any go, and the others are numbered anew."""
    members, apart = Column(new / MEMBERS, "<i4"), Column(new / APART, "<f4")
    if ranks.first:
        members.create(len(x))
        apart.create(len(x))
    ranks.wait()
    centroids = _centroids(step, device)

    def keep(start: int, own: np.ndarray, distances: np.ndarray) -> None:
        members.put(start, own)
        apart.put(start, distances)

    counts = assign(x, centroids, keep, ranks=ranks)
    ranks.wait()
    if ranks.first and not counts.all():
        numbers = np.cumsum(counts > 0) - 1
        for start in range(0, len(x), 1 << 16):
            members.put(start, numbers[members[start : start + (1 << 16)]])
    held = counts > 0
    save(new, ranks, centroids=centroids.cpu().numpy()[held], sizes=counts[held])


def _centroids(step: Stage, device: torch.device) -> Float[Tensor, "k D"]:
    return torch.from_numpy(step.array("centroids")).to(device)
