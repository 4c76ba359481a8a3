"""Gram: the matrix of cosines between patches is to be the teacher's."""

from __future__ import annotations

from typing import Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from harness.losses.precision import guarded, refuse_unless, unit_length
from harness.losses.relations.difference import gram_difference
from harness.losses.relations.sets import refuse_unlike

Negatives = Literal["keep", "clamp", "clamp_teacher"]
Form = Literal["mean", "frobenius"]


def _refuse(student: Tensor, teacher: Tensor, negatives: str = "keep", form: str = "mean") -> None:
    refuse_unlike(student, teacher)
    known = ("keep", "clamp", "clamp_teacher")
    refuse_unless(negatives in known, f"got negatives={negatives!r}: want one of {', '.join(known)}; choose one")
    refuse_unless(form in ("mean", "frobenius"), f"got form={form!r}: want 'mean' or 'frobenius'; choose one")


@guarded(_refuse)
def gram_loss(
    student: Float[Tensor, "N Q D"],
    teacher: Float[Tensor, "N Q E"],
    negatives: Negatives = "keep",
    form: Form = "mean",
) -> Float[Tensor, ""]:
    """Squared difference of the two matrices of cosines between patches, diagonal included, mean over N sets.

    student, teacher: patches after the final norm. The teacher receives no gradient; its width E may differ from D
    (a Gram matrix has Q × Q entries whatever the width). With many more patches than channels the same number comes
    from matrices of D × D entries (`harness/losses/relations/difference.py`), unless negatives are clamped.
    negatives: "clamp" sets negative cosines of both to 0, "clamp_teacher" those of the teacher only.
    form: "mean" over the Q² entries, or their sum, the squared "frobenius" norm.
    Blind to: a rotation or reflection of the student's channels, the length of each patch. Sees: a shift.
    Raises BadInput for shapes that do not fit or an unknown choice.
    Source: DINOv3 §4.2, arXiv 2508.10104, which writes the squared Frobenius norm; the published code takes
    the mean, and the weight 2 there belongs to that.
    """
    ours, theirs = unit_length(student), unit_length(teacher.detach())
    if negatives == "keep":
        loss = gram_difference(ours, theirs)
    else:
        cosines, wanted = ours @ ours.mT, (theirs @ theirs.mT).clamp(min=0)
        loss = mse_loss(cosines.clamp(min=0) if negatives == "clamp" else cosines, wanted.to(cosines.dtype))
    return loss if form == "mean" else loss * student.shape[1] ** 2
