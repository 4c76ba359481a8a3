"""CKA: the centred kernel matrix of the patches is to be the teacher's, up to a factor."""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from harness.losses.precision import SHORTEST, at_least_float32, guarded
from harness.losses.relations.difference import gram_difference, in_channels
from harness.losses.relations.sets import refuse_unlike


@guarded(partial(refuse_unlike, least=2))
def cka_loss(student: Float[Tensor, "N Q D"], teacher: Float[Tensor, "N Q E"]) -> Float[Tensor, ""]:
    """1 − CKA of the patches of each set, mean over N sets: from 0 (alike) to 1.

    CKA = ⟨K, L⟩ / (‖K‖ ‖L‖) with the linear kernels K = XXᵀ and L = YYᵀ of patches less their mean over the set. With
    both kernels at norm 1 that is 1 − ½‖K − L‖², so the loss is taken from the difference and keeps its digits near 0.
    student, teacher: patches after the final norm. The teacher receives no gradient; its width E may differ from D.
    Blind to: rotation or reflection, one common scale, a shift. Sees: the length of each patch beside the others'.
    Raises BadInput for shapes that do not fit, or one patch alone.
    Source: PaKA, arXiv 2509.05606 (patches of student and teacher); CKA: Kornblith et al., arXiv 1905.00414 §3. There
    the patches pass a head of their own and crops overlap; here they are those that every relation compares.
    """
    ours, theirs = _centred(student), _centred(teacher.detach())
    return gram_difference(ours, theirs) * (student.shape[1] ** 2 / 2)


def _centred(patches: Float[Tensor, "N Q D"]) -> Float[Tensor, "N Q D"]:
    """Patches less their mean, scaled so that their kernel matrix has norm 1; patches that are all equal become 0."""
    rows = at_least_float32(patches)
    rows = rows - rows.mean(1, keepdim=True)
    kernel = rows.mT @ rows if in_channels(*rows.shape[1:]) else rows @ rows.mT  # of the same norm
    norm = kernel.flatten(1).norm(dim=1).clamp(min=SHORTEST**2)
    return rows / norm.sqrt()[:, None, None]
