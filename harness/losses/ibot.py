"""The iBOT loss: the student's masked patches against the teacher's assignments at the same places."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from common.limits import require
from harness.losses.head import Head
from harness.losses.inputs import Outputs, Targets
from harness.losses.precision import (
    at_least_float32,
    guarded,
    refuse_cold,
    refuse_non_float,
    refuse_unless,
    shape,
)


class IbotPer(Enum):
    crop = "crop"
    masked_crop = "masked_crop"


@dataclass(frozen=True)
class Ibot:
    """The iBOT loss on masked patches (§3.2), and how global crops are masked."""

    weight: float = 1.0
    student_temperature: float = 0.1
    mask_probability: float = 0.5
    mask_ratio_min: float = 0.1
    mask_ratio_max: float = 0.5
    per: IbotPer = IbotPer.crop
    head: Head = field(default_factory=Head)

    def __post_init__(self) -> None:
        require(self.weight >= 0, f"ibot.weight={self.weight}: use 0 to switch it off")
        require(self.student_temperature > 0, f"ibot.student_temperature={self.student_temperature}: want more than 0")
        require(
            0 <= self.mask_probability <= 1, f"ibot.mask_probability={self.mask_probability}: want a share in [0, 1]"
        )
        require(
            0 <= self.mask_ratio_min <= self.mask_ratio_max < 1,
            f"ibot.mask_ratio_min={self.mask_ratio_min}, ibot.mask_ratio_max={self.mask_ratio_max}: "
            "want 0 <= min <= max < 1",
        )


def _refuse(
    student_logits: Tensor,
    teacher_probs: Tensor,
    masks: Tensor,
    student_temperature: float = 0.1,
    per: str = "crop",
) -> None:
    got = f"got student {shape(student_logits)}, teacher {shape(teacher_probs)}, masks {shape(masks)}"
    ok = student_logits.ndim == 2 and student_logits.shape == teacher_probs.shape and student_logits.shape[1] > 0
    refuse_unless(ok, f"{got}: want [M, K] twice; pass the masked patches of both networks")
    ok = masks.ndim == 2 and masks.numel() > 0 and masks.dtype == torch.bool
    refuse_unless(ok, f"{got} of {masks.dtype}: want masks [C, P] of bool; one row per crop")
    refuse_unless(per in ("crop", "masked_crop"), f"got per={per!r}: want 'crop' or 'masked_crop'; choose one")
    refuse_non_float(student_logits=student_logits, teacher_probs=teacher_probs)
    refuse_cold(student_temperature)
    if masks.device.type != "meta" and not torch.compiler.is_compiling():
        masked = int(masks.sum())
        refuse_unless(masked == len(student_logits), f"{got}: want {masked} patches, one per True; select by the masks")


@guarded(_refuse)
def ibot_loss(
    student_logits: Float[Tensor, "M K"],
    teacher_probs: Float[Tensor, "M K"],
    masks: Bool[Tensor, "C P"],
    student_temperature: float = 0.1,
    per: Literal["crop", "masked_crop"] = "crop",
) -> Float[Tensor, ""]:
    """Cross-entropy in nats over the M masked patches: mean within each crop, then over crops.

    student_logits, teacher_probs: the masked patches in the order of `tensor[masks]`, so crop by crop; the teacher's
    rows sum to 1 and receive no gradient.
    masks: True where a patch of one of the C crops is masked. They may stay on the CPU, which saves a
    synchronisation with the device.
    per: "crop" divides by all C crops, masked or not, as the published code does (half the size when half of the
    crops are masked); "masked_crop" by those that have a mask.
    Returns 0, with a graph, when nothing is masked. Raises BadInput for shapes that do not fit (the number of masked
    patches is not checked on the meta device or under compilation), temperature <= 0 or an unknown `per`.
    Source: iBOT, arXiv 2111.07832 §3.2; DINOv3 §3.2, arXiv 2508.10104.
    """
    log_p = (at_least_float32(student_logits) / student_temperature).log_softmax(-1)
    entropies = -(at_least_float32(teacher_probs.detach()) * log_p).sum(-1)
    counts = masks.sum(1)
    crops = len(masks) if per == "crop" else (counts > 0).sum().clamp(min=1)
    shares = 1 / (counts.clamp(min=1) * crops).to(entropies.dtype)
    # output_size: without it the shape would depend on the data (a synchronisation, and impossible on meta).
    weights = shares.repeat_interleave(counts, output_size=len(entropies))
    return (entropies * weights.to(entropies.device, non_blocking=True)).sum()


TITLES = {"ibot": "iBOT"}


def terms(own: Ibot, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """Masked patches, where there are any."""
    if outputs.ibot is None or targets.ibot is None:
        return {}
    temperature, per = own.student_temperature, own.per.value
    return {"ibot": ibot_loss(outputs.ibot, targets.ibot, outputs.masks, temperature, per=per)}


def factors(own: Ibot, step: int, local_crops: int) -> dict[str, float]:
    """The weight."""
    return {"ibot": own.weight}
