"""Features: each patch itself is to be the teacher's; the control, since it compares no patch with another."""

from __future__ import annotations

from functools import partial

from jaxtyping import Float
from torch import Tensor

from harness.losses.precision import guarded, unit_length
from harness.losses.relations.sets import refuse_unlike


@guarded(partial(refuse_unlike, same_width=True))
def feature_loss(student: Float[Tensor, "N Q D"], teacher: Float[Tensor, "N Q D"]) -> Float[Tensor, ""]:
    """Squared distance of the directions of student's and teacher's patch, mean over patches: 2 − 2 cos, 0 to 4.

    Directions, so that this and the Gram loss are of the same vectors, and differ in the relation alone.
    student, teacher: patches after the final norm, of one width. The teacher receives no gradient.
    Blind to: the length of each patch. Sees: any rotation, any shift.
    Raises BadInput for shapes that do not fit, or widths that differ.
    Source: FitNets, arXiv 1412.6550 §2.2 (squared distance of features), without its regressor between widths.
    """
    ours, theirs = unit_length(student), unit_length(teacher.detach())
    return (ours - theirs.to(ours.dtype)).square().sum(-1).mean()
