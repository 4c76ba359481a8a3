"""The iBOT loss: the student's masked patches against the teacher's assignments at the same places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.bounds import About, Flag, NotNegative, Positive, Share, ShareBelowOne
from common.schema import settings
from harness.losses.cross_entropy import Scores, cross_entropy
from harness.losses.head import Head
from harness.losses.inputs import Outputs, Targets
from harness.losses.precision import at_least_float32, guarded, refuse_cold, refuse_non_float, refuse_unless, shape

IbotPer = Literal["crop", "masked_crop"]


@settings
class Ibot:
    """The iBOT loss on masked patches (§3.2), and how global crops are masked."""

    weight: Annotated[
        NotNegative,
        About(
            "factor of the iBOT loss on masked patches, 0 switches it off (crops are masked all the same)",
            "DINOv3 §3.2",
        ),
    ] = 1.0
    student_temperature: Annotated[Positive, About("divides the student's logits", "official code")] = 0.1
    mask_probability: Annotated[Share, About("share of the global crops that get a mask", "official code")] = 0.5
    mask_ratio_min: Annotated[
        ShareBelowOne,
        About(
            "least share of masked patches in a masked crop; those of a step are evenly spaced above it",
            "official code",
        ),
    ] = 0.1
    mask_ratio_max: Annotated[
        ShareBelowOne, About("largest share of masked patches in a masked crop", "official code")
    ] = 0.5
    mask_shift: Annotated[
        Flag,
        About(
            "each mask is moved by a random number of rows and of columns, around the edges of the crop",
            "official code (off)",
        ),
    ] = False
    per: Annotated[
        IbotPer,
        About(
            "what the sum over masked crops is divided by; `crop`: all global crops; `masked_crop`: the masked ones",
            "`crop`: official code; `masked_crop`: iBOT, arXiv 2111.07832",
        ),
    ] = "crop"
    head: Head = field(default_factory=Head)

    @property
    def is_on(self) -> bool:
        """Whether patches are masked and asked for."""
        return self.weight > 0 and self.mask_probability > 0

    def conflicts(self) -> Iterator[str]:
        """No share in between."""
        if self.mask_ratio_min > self.mask_ratio_max:
            yield f"mask_ratio_min={self.mask_ratio_min}: want at most mask_ratio_max={self.mask_ratio_max}"


def _refuse(
    student: Scores, teacher_probs: Tensor, masks: Tensor, student_temperature: float = 0.1, per: str = "crop"
) -> None:
    got = f"got student {student.shape}, teacher {shape(teacher_probs)}, masks {shape(masks)}"
    ok = len(student.shape) == 2 and student.shape == list(teacher_probs.shape) and student.shape[1] > 0
    refuse_unless(ok, f"{got}: want [M, K] twice; pass the masked patches of both networks")
    ok = masks.ndim == 2 and masks.numel() > 0 and masks.dtype == torch.bool
    refuse_unless(ok, f"{got} of {masks.dtype}: want masks [C, P] of bool; one row per crop")
    refuse_unless(per in ("crop", "masked_crop"), f"got per={per!r}: want 'crop' or 'masked_crop'; choose one")
    refuse_non_float(student=student.features, teacher_probs=teacher_probs)
    refuse_cold(student_temperature)
    if masks.device.type != "meta" and not torch.compiler.is_compiling():
        masked = int(masks.sum())
        refuse_unless(masked == student.shape[0], f"{got}: want {masked} patches, one per True; select by the masks")


@guarded(_refuse)
def ibot_loss(
    student: Scores,
    teacher_probs: Float[Tensor, "M K"],
    masks: Bool[Tensor, "C P"],
    student_temperature: float = 0.1,
    per: IbotPer = "crop",
) -> Float[Tensor, ""]:
    """Cross-entropy in nats over the M masked patches: mean within each crop, then over crops.

    student, teacher_probs: scores [M, K] and targets of the masked patches in the order of `tensor[masks]`, so crop by
    crop; the teacher's rows sum to 1 and receive no gradient.
    masks: True where a patch of one of the C crops is masked. They may stay on the CPU, which saves a
    synchronisation with the device.
    per: "crop" divides by all C crops, masked or not, as the published code does (half the size when half of the
    crops are masked); "masked_crop" by those that have a mask.
    Returns 0, with a graph, when nothing is masked. Raises BadInput for shapes that do not fit (the number of masked
    patches is not checked on the meta device or under compilation), temperature <= 0 or an unknown `per`.
    Source: iBOT, arXiv 2111.07832 §3.2; DINOv3 §3.2, arXiv 2508.10104.
    """
    targets = teacher_probs.detach()
    counts = masks.sum(1)
    crops = len(masks) if per == "crop" else (counts > 0).sum().clamp(min=1)
    shares = 1 / (counts.clamp(min=1) * crops).to(at_least_float32(targets).dtype)
    # output_size: without it the shape would depend on the data (a synchronisation, and impossible on meta).
    weights = shares.repeat_interleave(counts, output_size=len(targets)).to(targets.device, non_blocking=True)
    return cross_entropy(student, targets, weights, student_temperature)


TITLES = {"ibot": "iBOT"}


def terms(own: Ibot, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """Masked patches, where there are any."""
    if outputs.ibot is None or targets.ibot is None:
        return {}
    return {"ibot": ibot_loss(outputs.ibot, targets.ibot, outputs.masks, own.student_temperature, per=own.per)}


def over(own: Ibot, masks: Bool[Tensor, "C P"]) -> int:
    """How many crops the term is a mean over."""
    return len(masks) if own.per == "crop" else int(masks.any(1).sum())


def factors(own: Ibot, weight: float, local_crops: int) -> dict[str, float]:
    """The weight."""
    return {"ibot": weight}
