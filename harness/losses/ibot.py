"""The iBOT loss: the student's masked patches against the teacher's assignments at the same places."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from harness.losses.precision import (
    at_least_float32,
    guarded,
    refuse_cold,
    refuse_non_float,
    refuse_unless,
    shape,
)

Per = Literal["crop", "masked_crop"]


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
    per: Per = "crop",
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
