"""kNN classification on frozen image features (DINOv3 evaluation, arXiv 2508.10104 §6; Wu et al. 2018)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from common.bounds import About, Choices, Count, Positive
from common.errors import BadInput
from common.schema import settings
from evals.datasets.labelled_set import LabelledSet, Needs
from evals.features.feature_set import FeatureSet
from evals.fitting.nearest import BUDGET, search
from evals.judging.image_classes import learnable, shared_classes
from evals.protocols.protocol import Cropped


@settings
class Knn(Cropped):
    """Cosine similarity, weights softmax(similarity / temperature) over the max(k) nearest; the first k vote.

    Input: short side to round(`size` / `crop_pct`) (bicubic, antialiased), centre square of `size`. One k gives top-1;
    several give top-1 and top-5 for each, and the first named is the headline.
    """

    method: ClassVar[str] = "knn"
    task: ClassVar[str] = "knn"
    needs: ClassVar[Needs] = "image classes"

    k: Annotated[Choices[Count], About("numbers of neighbours that vote; the first named is the headline")]
    temperature: Annotated[Positive, About("divides the cosines before the softmax that weighs the votes")]


def metrics(protocol: Knn) -> tuple[str, ...]:
    """top1 for one k; else top1@k and top5@k, those of the first k leading."""
    tagged = tuple(f"{metric}@{k}" for metric in ("top1", "top5") for k in protocol.k)
    return tagged if len(protocol.k) > 1 else ("top1",)


def preconditions(protocol: Knn, train: LabelledSet, test: LabelledSet) -> None:
    """Raises BadInput for what `evaluate` refuses, as far as names and counts tell."""
    learnable(train, test)
    if max(protocol.k) > len(train):
        got = f"got k={max(protocol.k)} and {len(train)} training images"
        own = f"k: [{min(5, len(train))}] and a new name in a copy of evals/protocols/knn-quick.yaml"
        do = f"add images, or write {own} and give it by --protocol knn=FILE.yaml"
        raise BadInput(f"{got}: want no more neighbours than images; {do}")


def evaluate(
    protocol: Knn, train: FeatureSet, test: FeatureSet, *, device: str | torch.device = "cpu"
) -> dict[str, np.ndarray]:
    """Per test image, whether its class is right: `correct`; with several k `correct@k` and `in_top5@k` for each.

    Raises:
        BadInput: fewer training images than neighbours, sets of unlike classes.
    """
    labels, truth = train.labels, test.labels
    classes = shared_classes(train.dataset, test.dataset)
    chunk = max(BUDGET // (32 * classes * len(protocol.k)), 1)
    tops = {"correct": 1} if len(protocol.k) == 1 else {"correct": 1, "in_top5": 5}
    found = {name: torch.zeros(len(protocol.k), len(truth), dtype=torch.bool) for name in tops}
    for start, similar, nearest in search(test.pooled, train.pooled, k=max(protocol.k), device=device):
        for first in range(0, len(similar), chunk):
            part = slice(first, first + chunk)
            scores = vote(similar[part], labels[nearest[part]], protocol, classes=classes)
            place = slice(start + first, start + first + scores.shape[1])
            for name, top in tops.items():
                found[name][:, place] = among(scores, truth[place], top=top)
    tags = [""] if len(protocol.k) == 1 else [f"@{k}" for k in protocol.k]
    arrays = {f"{name}{tag}": row.numpy() for name in tops for tag, row in zip(tags, found[name], strict=True)}
    return {"keys": np.array(test.keys), **arrays}


def vote(
    similar: Float[Tensor, "q K"], labels: Int[Tensor, "q K"], protocol: Knn, *, classes: int
) -> Float[Tensor, "k q C"]:
    """Class scores for each of the protocol's k: the weights of the first k of K neighbours, added up by class.

    The weights sum to one over all K. Over the first k alone they would be larger by a factor per query, so no order of
    classes depends on it.
    """
    weights = (similar.double() / protocol.temperature).softmax(1)
    scores = weights.new_zeros(len(protocol.k), len(weights), classes)
    for row, k in zip(scores, protocol.k, strict=True):
        row.scatter_add_(1, labels[:, :k], weights[:, :k])
    return scores


def among(scores: Float[Tensor, "k q C"], truth: Int[Tensor, " q"], *, top: int) -> Bool[Tensor, "k q"]:
    """Whether the true class is among the `top` best; the lower class wins a tie, one without a vote never counts."""
    own = scores.gather(2, truth.expand(len(scores), -1)[:, :, None])
    lower = torch.arange(scores.shape[2]) < truth[:, None]
    ahead = (scores > own).sum(2) + ((scores == own) & lower).sum(2)
    return (ahead < top) & (own[:, :, 0] > 0)
