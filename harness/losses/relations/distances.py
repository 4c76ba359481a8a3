"""Relational distances: how far patches lie from each other is to be as for the teacher, up to a factor."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import smooth_l1_loss

from harness.losses.precision import SHORTEST, at_least_float32, guarded
from harness.losses.relations.sets import refuse_unlike

NEAR = 1e-3  # of the mean distance: pairs below it pull nowhere, since rounding would choose the direction


@guarded(partial(refuse_unlike, least=2))
def distance_loss(student: Float[Tensor, "N Q D"], teacher: Float[Tensor, "N Q E"]) -> Float[Tensor, ""]:
    """Huber loss (δ = 1) between the two sides' distances of patches, mean over pairs of different patches and N sets.

    ψ(i, j) = ‖tᵢ − tⱼ‖ / μ, where μ is the mean of the set's distances, for each side by itself.
    student, teacher: patches after the final norm. The teacher receives no gradient; its width E may differ from D.
    Blind to: rotation or reflection, a shift (so to any isometry), one common scale. Sees: the length of each patch.
    Pairs nearer than a thousandth of the mean pull nowhere.
    Raises BadInput for shapes that do not fit, or one patch alone.
    Source: RKD, arXiv 1904.05068 §3.2.1, where a set is a batch of images.
    """
    pairs = student.shape[1] / (student.shape[1] - 1)  # the diagonal adds nothing, and is not counted
    ours, theirs = _relative(student), _relative(teacher.detach())
    return smooth_l1_loss(ours, theirs.to(ours.dtype)) * pairs


def _relative(patches: Float[Tensor, "N Q D"]) -> Float[Tensor, "N Q Q"]:
    """Distances over their mean."""
    rows = at_least_float32(patches)
    found: Any = _Distances.apply(rows - rows.mean(1, keepdim=True))  # about the mean its products keep more digits
    count = rows.shape[1] * (rows.shape[1] - 1)
    return found / (found.sum((1, 2), keepdim=True) / count).clamp(min=SHORTEST)


class _Distances(torch.autograd.Function):
    """torch.cdist without products, whose rounding a root near 0 would magnify; its own gradient holds Q²·D numbers on
    a GPU, this one Q² and Q·D.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        found = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        ctx.save_for_backward(x, found)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        x, found = ctx.saved_tensors
        apart = found > NEAR * found.mean((1, 2), keepdim=True)
        pulls = torch.where(apart, (gradients[0] + gradients[0].mT) / found, 0)
        return pulls.sum(-1, keepdim=True) * x - pulls @ x
