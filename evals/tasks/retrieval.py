"""Segmentation by retrieval: a patch takes the labels of its nearest patches in a memory bank, nothing is trained.

Dense nearest-neighbour retrieval of Hummingbird (Balažević et al., arXiv 2306.01667, §3 and App.).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.bounds import About, Count, Positive
from common.errors import BadInput
from common.schema import settings
from evals.datasets.labelled_set import Needs
from evals.features.feature_set import FeatureSet
from evals.features.patch_choice import quotas, visits
from evals.fitting.nearest import search
from evals.judging.pixel_classes import areas, classes_at, no_labels, same_segments, shares_of
from evals.protocols.protocol import Protocol, Watch

ROWS = 1024  # queries whose neighbours' labels are gathered at once


@settings
class Retrieval(Protocol):
    """Settings of the memory bank and its neighbours; the file of the protocol tells the steps."""

    method: ClassVar[str] = "retrieval"
    task: ClassVar[str] = "retrieval"
    needs: ClassVar[Needs] = "pixel classes"

    memory: Annotated[Count, About("training patches in the memory bank, at most")]
    k: Annotated[Count, About("nearest patches in memory whose labels a test patch takes")]
    temperature: Annotated[Positive, About("divides the cosines before the softmax that weighs the labels")]


def metrics(_: Retrieval) -> tuple[str, ...]:
    """The names of its metrics, the leading one first."""
    return "miou", "pixel_accuracy", "mean_accuracy"


def evaluate(
    protocol: Retrieval,
    train: FeatureSet,
    test: FeatureSet,
    *,
    device: str | torch.device = "cpu",
    watch: Watch | None = None,
) -> dict[str, np.ndarray]:
    """Per test image: right, predicted and true pixels by class, `intersect`, `predicted`, `truth` [n C].

    Args:
        watch: also told the predicted pixel classes [H W] of each test image.

    Raises:
        BadInput: sets without masks, with unlike class lists, or with fewer labelled patches than neighbours.
    """
    same_segments(train.dataset, test.dataset)
    bank, labels = memory_bank(train, most=protocol.memory)
    if protocol.k > len(bank):
        raise BadInput(
            f"got k={protocol.k} and {len(bank)} labelled patches in memory: want no more neighbours than patches; "
            "do lower k, raise memory or add training images"
        )

    def guess(index: int, votes: Tensor, shape: tuple[int, int]) -> Int[np.ndarray, "H W"]:
        return classes_at(votes.T.reshape(-1, *test.grid(index)), shape).cpu().numpy()

    found = _votes(protocol, test, bank, labels, device=device)
    guesses = ((index, partial(guess, index, votes)) for index, votes in found)
    return areas(test.dataset, guesses, title="retrieval", watch=watch)


def memory_bank(train: FeatureSet, *, most: int) -> tuple[Float[Tensor, "m D"], Float[Tensor, "m C"]]:
    """At most `most` patches, and for each the shares of the classes among its pixels.

    Every image gives as many as the others, evenly over its area (`evals.features.patch_choice`), out of those with a
    labelled pixel; an image with too few of them gives fewer.

    Raises:
        BadInput: no labelled pixel at all.
    """
    classes = len(train.dataset.segments)
    sizes = np.array([np.prod(train.grid(index)) for index in range(len(train))])
    patches, labels = [], []
    for index, quota in enumerate(quotas(sizes, most).tolist()):
        if not quota:
            continue
        shares = shares_of(train.dataset.mask(index), train.grid(index), classes)
        order = visits(train.grid(index), index, quota)
        chosen = order[shares[order].sum(1) > 0][:quota]
        patches.append(train.patches(index)[torch.from_numpy(chosen)])
        labels.append(torch.from_numpy(shares[chosen]))
    if not sum(map(len, labels)):
        raise no_labels(train.dataset)
    return torch.cat(patches), torch.cat(labels)


def attend(
    similar: Float[Tensor, "q k"], labels: Float[Tensor, "q k C"], *, temperature: float
) -> Float[Tensor, "q C"]:
    """Mean of the neighbours' labels, weighted by softmax(cosine / temperature)."""
    return ((similar / temperature).softmax(1).to(labels.dtype)[:, None] @ labels)[:, 0]


def _votes(
    protocol: Retrieval,
    test: FeatureSet,
    bank: Float[Tensor, "m D"],
    labels: Float[Tensor, "m C"],
    *,
    device: str | torch.device,
) -> Iterator[tuple[int, Float[Tensor, "P C"]]]:
    """Class votes of all patches, image by image as they are stored; the search takes blocks across images."""
    images = iter(test.order())
    index = next(images)
    waiting = labels.new_empty(0, labels.shape[1])
    for _, similar, places in search(test.dense(), bank, k=protocol.k, device=device):
        for some, place in zip(similar.split(ROWS), places.split(ROWS), strict=True):
            waiting = torch.cat([waiting, attend(some, labels[place], temperature=protocol.temperature)])
        while index is not None and len(waiting) >= (size := int(np.prod(test.grid(index)))):
            yield index, waiting[:size]
            waiting, index = waiting[size:], next(images, None)
