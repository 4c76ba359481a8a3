"""Weighted nearest neighbours on frozen pooled features (DINOv3 evaluation, arXiv 2508.10104 §6; Wu et al. 2018)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from evals.errors import BadInput
from evals.features import FeatureSet
from evals.protocol import Layout, Protocol


@dataclass(frozen=True, kw_only=True)
class Knn(Protocol):
    """Cosine similarity, weights softmax(similarity / temperature), top-1.

    Input: short side to `size` (bicubic, antialiased), centre crop; the published protocol resizes to 256 first.
    """

    family: str = "knn"
    name: str = "knn-quick"
    version: int = 1
    layout: Layout = "crop"
    k: int = 20
    temperature: float = 0.07


METRICS = ("top1",)


def evaluate(
    protocol: Knn, train: FeatureSet, test: FeatureSet, *, device: str | torch.device = "cpu"
) -> dict[str, np.ndarray]:
    """Per test image: `correct`, whether the class is right.

    Raises:
        BadInput: fewer training images than neighbours.
    """
    if not 1 <= protocol.k <= len(train):
        raise BadInput(f"got k={protocol.k} and {len(train)} training images: want 1 <= k <= images; do change one")
    bank, queries = (x.pooled.to(device) for x in (train, test))
    scores = vote(queries, bank, train.labels.to(device), k=protocol.k, temperature=protocol.temperature)
    correct = (scores.argmax(1).cpu() == test.labels).numpy()
    return {"keys": np.array(test.keys), "correct": correct}


def vote(
    queries: Float[Tensor, "q D"],
    bank: Float[Tensor, "n D"],
    labels: Int[Tensor, " n"],
    *,
    k: int,
    temperature: float,
    rows: int = 1024,
    columns: int = 16384,
) -> Float[Tensor, "q C"]:
    """Class scores that sum to one: the weights of the k most similar rows of `bank`, added up by class.

    Both sides are taken in blocks (`rows` × `columns`), so that memory does not grow with q · n.
    """
    classes = int(labels.max()) + 1
    bank = F.normalize(bank, dim=1)
    scores = queries.new_zeros(len(queries), classes)
    for start in range(0, len(queries), rows):
        similar, nearest = _nearest(F.normalize(queries[start : start + rows], dim=1), bank, k, columns)
        scores[start : start + rows].scatter_add_(1, labels[nearest], (similar / temperature).softmax(1))
    return scores


def _nearest(queries: Tensor, bank: Tensor, k: int, columns: int) -> tuple[Tensor, Tensor]:
    similar = queries.new_empty(len(queries), 0)
    nearest = torch.empty(len(queries), 0, dtype=torch.long, device=queries.device)
    for start in range(0, len(bank), columns):
        block = queries @ bank[start : start + columns].T
        values, places = block.topk(min(k, block.shape[1]), dim=1)
        similar, nearest = torch.cat([similar, values], 1), torch.cat([nearest, places + start], 1)
        similar, order = similar.topk(min(k, similar.shape[1]), dim=1)
        nearest = nearest.gather(1, order)
    return similar, nearest
