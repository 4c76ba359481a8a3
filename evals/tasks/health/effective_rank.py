"""Effective rank of feature matrices, and what each image adds to it.

Effective rank (Roy & Vetterli, EUSIPCO 2007): exp of the entropy of the singular values, normalised to sum one. RankMe
(arXiv 2210.02885) is the same of image-level features that are not centred. One number for a whole set, so the share
of an image is its pseudo-value by the infinitesimal jackknife (Jaeckel 1972; Efron 1982): the rank plus n times its
derivative by the weight of the image. Their mean is the rank, their spread gives its first-order standard error.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from evals.tasks.health.patch_grid import Patches

RESOLUTION = 1e-12  # of the mean squared norm: directions with less energy are rounding errors of float32 networks


def rank_of(
    energy: Float[Tensor, "*b m"], total: Float[Tensor, "*b"]
) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b m"]]:
    """Effective rank and its derivative by each energy, the squared singular values of a matrix up to a factor.

    Energies up to RESOLUTION · `total` count as none; without any the rank is 1.
    """
    energy = torch.where(energy > RESOLUTION * total[..., None], energy, 0)
    singular = energy.sqrt()
    mass = singular.sum(-1, keepdim=True)
    share = singular / torch.where(mass > 0, mass, 1)
    entropy = -torch.xlogy(share, share).sum(-1, keepdim=True)
    rank = entropy.exp()
    known = energy > 0
    logs = torch.where(known, share, 1).log()
    slope = -rank * (logs + entropy) / (2 * torch.where(known, singular * mass, 1))
    return rank[..., 0], torch.where(known, slope, 0)


def row_ranks(x: Float[Tensor, "*b n d"]) -> Float[Tensor, "*b n"]:
    """Pseudo-values of the rows, an image each, for the effective rank of `x` as it is, not centred."""
    x = x.double()
    images, width = x.shape[-2:]
    total = x.square().sum((-2, -1)) / images
    if width <= images:
        energy, directions = torch.linalg.eigh(x.mT @ x / images)
        own = (x @ directions).square()
    else:
        energy, weights = torch.linalg.eigh(x @ x.mT / images)
        own = images * energy.clamp_min(0)[..., None, :] * weights.square()
    rank, slope = rank_of(energy, total)
    return rank[..., None] + ((own - energy[..., None, :]) * slope[..., None, :]).sum(-1)


def patch_ranks(patches: Patches) -> Float[Tensor, " n"]:
    """Pseudo-values of the images for the effective rank of all patches together, centred on their mean.

    Reads the set twice; the d × d covariance is float64.
    """
    width = patches.width
    mean, square = torch.zeros(width).double(), torch.zeros(width, width).double()
    for _, block in patches.blocks():
        x = block.flatten(0, 1).double()
        mean += x.sum(0)
        square += x.T @ x
    count = len(patches) * patches.count
    mean, square = mean / count, square / count
    energy, directions = torch.linalg.eigh(square - mean.outer(mean))
    rank, slope = rank_of(energy, square.trace())
    found = torch.empty(len(patches)).double()
    for which, block in patches.blocks():
        own = ((block.double() - mean) @ directions).square().mean(1)
        found[which] = rank + (own - energy) @ slope
    return found
