"""Unsupervised segmentation: clusters of patches, matched to the classes afterwards, nothing is trained with labels.

k-means over the patches of the test set itself with as many clusters as classes, then the one-to-one matching that gets
most pixels right, as for IIC (Ji et al., arXiv 1807.06653, §4) and STEGO (Hamilton et al., arXiv 2203.08414, §5).
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from common.bounds import About, Count, Whole
from common.errors import BadInput
from common.schema import settings
from evals.datasets.labelled_set import IGNORE, Needs
from evals.features.feature_set import FeatureSet
from evals.features.patch_choice import quotas, visits
from evals.features.view import cells
from evals.fitting.kmeans import kmeans, nearest
from evals.judging.pixel_classes import areas
from evals.protocols.protocol import Protocol, Watch


@settings
class Clustering(Protocol):
    """Settings of k-means; the file of the protocol tells the steps."""

    method: ClassVar[str] = "clustering"
    task: ClassVar[str] = "clustering"
    needs: ClassVar[Needs] = "pixel classes"

    max_patches: Annotated[Count, About("patches that the clusters are fitted on, at most")]
    rounds: Annotated[Count, About("rounds of k-means, at most")]
    restarts: Annotated[Count, About("starts of k-means, of which the best is kept")]
    seed: Annotated[Whole, About("of the starts")]


def metrics(_: Clustering) -> tuple[str, ...]:
    """The names of its metrics, the leading one first."""
    return "miou", "pixel_accuracy", "mean_accuracy"


def evaluate(
    protocol: Clustering, test: FeatureSet, *, device: str | torch.device = "cpu", watch: Watch | None = None
) -> dict[str, np.ndarray]:
    """Per image, after matching: right, predicted and true pixels by class, `intersect`, `predicted`, `truth` [n C].

    Args:
        watch: also told the predicted pixel classes [H W] of each image.

    Raises:
        BadInput: a set without masks or with fewer patches than classes.
    """
    classes = len(test.dataset.segments)
    if not classes:
        raise BadInput(f"got {test.dataset.name} without pixel classes: want masks; do name another set")
    x = sample(test, most=protocol.max_patches).to(device)
    rounds, restarts = protocol.rounds, protocol.restarts
    centroids = kmeans(x[None], classes, rounds=rounds, restarts=restarts, seed=protocol.seed).centroids[0]
    clusters = [_assign(test.patches(index).to(device), centroids) for index in range(len(test))]
    class_of = match(confusion(test, clusters, classes))

    def guess(index: int, shape: tuple[int, int]) -> Int[np.ndarray, "H W"]:
        return class_of[clusters[index]][cells(shape, test.grid(index))]

    guesses = ((index, partial(guess, index)) for index in range(len(test)))
    return areas(test.dataset, guesses, title="clustering", watch=watch)


def sample(features: FeatureSet, *, most: int) -> Float[Tensor, "m D"]:
    """Patches at unit length, at most `most`, evenly over images and their area (`evals.features.patch_choice`)."""
    sizes = np.array([np.prod(features.grid(index)) for index in range(len(features))])
    chosen = [
        features.patches(index)[torch.from_numpy(visits(features.grid(index), index, quota)[:quota])]
        for index, quota in enumerate(quotas(sizes, most).tolist())
        if quota
    ]
    return F.normalize(torch.cat(chosen), dim=1)


def confusion(features: FeatureSet, clusters: list[Int[np.ndarray, " P"]], classes: int) -> Int[np.ndarray, "K C"]:
    """Labelled pixels of the whole set by cluster and true class; a pixel has the cluster of the patch over it."""
    found = np.zeros((classes, classes), np.int64)
    for index, cluster in enumerate(clusters):
        mask = features.dataset.mask(index)
        known = mask != IGNORE
        guess = cluster[cells((mask.shape[0], mask.shape[1]), features.grid(index))]
        found += np.bincount(guess[known] * classes + mask[known], minlength=classes**2).reshape(classes, classes)
    return found


def match(pixels: Int[np.ndarray, "K C"]) -> Int[np.ndarray, " K"]:
    """The class of each cluster, one to one, so that most pixels are right (Hungarian method)."""
    from scipy.optimize import linear_sum_assignment  # takes a fifth of a second, and settings know every task

    return linear_sum_assignment(pixels, maximize=True)[1]


def _assign(patches: Float[Tensor, "P D"], centroids: Float[Tensor, "k D"]) -> Int[np.ndarray, " P"]:
    return nearest(F.normalize(patches, dim=1), centroids).cpu().numpy()
