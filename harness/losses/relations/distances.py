"""Relational distances: how far patches lie from each other is to be as for the teacher, up to a factor."""

from __future__ import annotations

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from harness.losses.precision import SHORTEST, at_least_float32, guarded
from harness.losses.relations.sets import refuse_unlike


@guarded(partial(refuse_unlike, least=2))
def distance_loss(student: Float[Tensor, "N Q D"], teacher: Float[Tensor, "N Q E"]) -> Float[Tensor, ""]:
    """Huber loss (δ = 1) between the two sides' distances of patches, mean over pairs of different patches and N sets.

    ψ(i, j) = ‖tᵢ − tⱼ‖ / μ, where μ is the mean of the set's distances, for each side by itself.
    student, teacher: patches after the final norm. The teacher receives no gradient; its width E may differ from D.
    Blind to: rotation or reflection, a shift (so to any isometry), one common scale. Sees: the length of each patch.
    Raises BadInput for shapes that do not fit, or one patch alone.
    Source: RKD, arXiv 1904.05068 §3.2.1, where a set is a batch of images.
    """
    pairs = student.shape[1] / (student.shape[1] - 1)  # the diagonal adds nothing, and is not counted
    ours, theirs = _relative(student), _relative(teacher.detach())
    return smooth_l1_loss(ours, theirs.to(ours.dtype)) * pairs


def _relative(patches: Float[Tensor, "N Q D"]) -> Float[Tensor, "N Q Q"]:
    """Distances over their mean. Not from products, whose rounding near 0 a square root would magnify."""
    rows = at_least_float32(patches)
    found = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist")
    count = rows.shape[1] * (rows.shape[1] - 1)
    return found / (found.sum((1, 2), keepdim=True) / count).clamp(min=SHORTEST)
