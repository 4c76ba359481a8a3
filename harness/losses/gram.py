"""Gram anchoring: the student keeps the similarities between patches that an earlier teacher had."""

from __future__ import annotations

from typing import Annotated, Literal

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss

from common.bounds import About
from common.schema import settings
from harness.losses.anchoring import Anchoring
from harness.losses.inputs import Outputs, Targets
from harness.losses.precision import guarded, refuse_non_float, refuse_unless, shape, unit_length
from harness.losses.relations.difference import gram_difference

GramLevel = Literal["image", "batch"]
Negatives = Literal["keep", "clamp", "clamp_teacher"]


@settings
class Gram(Anchoring):
    """Gram anchoring (§4.2): the relation is the matrix of cosines between patches, kept as `Anchoring` says."""

    level: Annotated[
        GramLevel,
        About(
            "whose patches one matrix of cosines is over; `image`: those of a crop; `batch`: those of both crops of "
            "all images",
            "official code (`image` for 7B)",
        ),
    ] = "image"
    negatives: Annotated[
        Negatives,
        About(
            "what becomes of negative cosines; `clamp`: those of both sides count as 0; `clamp_teacher`: those of "
            "the teacher only",
            "official code (`keep` for 7B)",
        ),
    ] = "keep"


def _refuse(student: Tensor, teacher: Tensor, level: str = "image", negatives: str = "keep") -> None:
    got = f"got student {shape(student)}, teacher {shape(teacher)}"
    ok = student.ndim == 3 and teacher.ndim == 3 and student.shape[:2] == teacher.shape[:2]
    refuse_unless(ok, f"{got}: want [B, P, D], same images and patches; resize the teacher's patches to the student's")
    refuse_unless(student.numel() > 0 and teacher.numel() > 0, f"{got}: want no empty axis; pass some patches")
    refuse_unless(level in ("image", "batch"), f"got level={level!r}: want 'image' or 'batch'; choose one")
    known = ("keep", "clamp", "clamp_teacher")
    refuse_unless(negatives in known, f"got negatives={negatives!r}: want one of {', '.join(known)}; choose one")
    refuse_non_float(student=student, teacher=teacher)


@guarded(_refuse)
def gram_loss(
    student: Float[Tensor, "B P D"],
    teacher: Float[Tensor, "B P E"],
    level: GramLevel = "image",
    negatives: Negatives = "keep",
) -> Float[Tensor, ""]:
    """Mean squared difference of the two matrices of cosines between patches, diagonal included.

    student, teacher: patches after the final norm. The teacher receives no gradient; its width E may differ from D
    (a Gram matrix has P × P entries whatever the width). With many more patches than channels the same number comes
    from matrices of D × D entries (`harness/losses/relations/difference.py`), unless negatives are clamped.
    level: "image" compares patches within an image, "batch" all B·P patches with each other, in (B·P)² entries.
    negatives: "clamp" sets negative cosines of both to 0, "clamp_teacher" those of the teacher only.
    Raises BadInput for shapes that do not fit or an unknown choice.
    Source: DINOv3 §4.2, arXiv 2508.10104, which writes the squared Frobenius norm; this is that divided by the
    number of entries, as in the published code, and the weight 2 there belongs to this form.
    """
    ours, theirs = _units(student, level), _units(teacher.detach(), level)
    if negatives == "keep":
        return gram_difference(ours, theirs)
    cosines, wanted = ours @ ours.mT, (theirs @ theirs.mT).clamp(min=0)
    return mse_loss(cosines.clamp(min=0) if negatives == "clamp" else cosines, wanted.to(cosines.dtype))


def _units(patches: Float[Tensor, "B P D"], level: GramLevel) -> Float[Tensor, "N Q D"]:
    """Directions of the patches that one matrix of cosines compares."""
    return unit_length(patches if level == "image" else patches.flatten(0, 1).unsqueeze(0))


TITLES = {"gram": "Gram"}


def terms(own: Gram, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """Patches of the global crops, masked as they are, against those of the Gram teacher, where the loss is on."""
    if targets.gram is None:
        return {}
    return {"gram": gram_loss(outputs.patches, targets.gram, level=own.level, negatives=own.negatives)}


def factors(own: Gram, weight: float, local_crops: int) -> dict[str, float]:
    """The weight at this step."""
    return {"gram": weight}
