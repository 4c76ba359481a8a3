"""Standardisation of features: mean and deviation learnt on a training set, in one pass over blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from evals.features.matrix import Rows, blocks


@dataclass(frozen=True)
class Scale:
    """Standardisation learnt on a training set: zero mean, unit deviation per feature (dead features stay zero)."""

    mean: Float[Tensor, " D"]
    deviation: Float[Tensor, " D"]

    def __call__(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        return (x - self.mean.to(x.device)) / self.deviation.to(x.device)

    def in_place(self, x: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
        """The same, written over x: a training matrix is gigabytes."""
        return x.sub_(self.mean).div_(self.deviation)


def fit_scale(rows: Rows, *, block: int = 16384) -> Scale:
    """Mean and deviation of each feature, in one pass over blocks of rows and in float64.

    The deviation is floored, so that a constant feature does not become noise.
    """
    count, mean, square = 0, torch.zeros(rows.shape[1]).double(), torch.zeros(rows.shape[1]).double()
    for _, part in blocks(rows, block):
        part = part.double()
        ours, shift = len(part), part.mean(0) - mean
        square += (part - part.mean(0)).square().sum(0) + shift.square() * (count * ours / (count + ours))
        mean += shift * (ours / (count + ours))
        count += ours
    deviation = (square / max(count, 1)).sqrt().float()
    return Scale(mean.float(), deviation.clamp_min(1e-6 * float(deviation.max().clamp_min(1e-12))))
