"""The DINO loss: students' class tokens against teachers' assignments."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from common.bounds import About, NotNegative, Positive
from common.schema import settings
from harness.losses.cross_entropy import Scores, cross_entropy
from harness.losses.head import Head
from harness.losses.inputs import Outputs, Targets
from harness.losses.precision import at_least_float32, guarded, refuse_cold, refuse_non_float, refuse_unless, shape


@settings
class Dino:
    """The DINO loss on class tokens (§3.2): global crops against each other, local crops against both."""

    weight: Annotated[
        NotNegative, About("factor of the DINO loss on class tokens, 0 switches it off", "DINOv3 §3.2")
    ] = 1.0
    local_weight: Annotated[
        NotNegative,
        About(
            "further factor of its local-crop part, 0 leaves local crops out of the forward pass",
            "official code (1; 0.5 during Gram anchoring)",
        ),
    ] = 1.0
    local_weight_start: Annotated[
        NotNegative | None,
        About(
            "that factor before the Gram loss begins, from which it goes to `dino.local_weight` as the Gram weight "
            "warms up (`gram.warmup_steps`); null = none, it is constant",
            "official code (from 1 to 0.5 in the 1000 steps in which the Gram weight rises)",
        ),
    ] = None
    student_temperature: Annotated[Positive, About("divides the student's logits", "official code")] = 0.1
    head: Head = field(default_factory=Head)

    @property
    def sees_locals(self) -> bool:
        """Whether local crops count in any step."""
        return self.weight * max(self.local_weight, self.local_weight_start or 0.0) > 0


def _refuse(
    student: Scores, teacher_probs: Tensor, student_temperature: float = 0.1, ignore_diagonal: bool = False
) -> None:
    ok = len(student.shape) == 3 and teacher_probs.ndim == 3 and student.shape[1:] == list(teacher_probs.shape[1:])
    got = f"got student {student.shape}, teacher {shape(teacher_probs)}"
    refuse_unless(ok, f"{got}: want [S, B, K] and [T, B, K]; views first, same images and prototypes")
    refuse_unless(0 not in student.shape and len(teacher_probs) > 0, f"{got}: want no empty axis; pass some views")
    pairs = student.shape[0] * len(teacher_probs)
    lonely = ignore_diagonal and pairs == 1
    refuse_unless(not lonely, f"{got} without equal pairs: want two views of either; set ignore_diagonal=False")
    refuse_non_float(student=student.features, teacher_probs=teacher_probs)
    refuse_cold(student_temperature)


@guarded(_refuse)
def dino_loss(
    student: Scores,
    teacher_probs: Float[Tensor, "T B K"],
    student_temperature: float = 0.1,
    ignore_diagonal: bool = False,
) -> Float[Tensor, ""]:
    """Cross-entropy in nats, averaged over the B images and all pairs of S student and T teacher views.

    student: the scores [S, B, K] of the students' views.
    teacher_probs: rows that sum to 1 (see `sinkhorn_knopp`); they receive no gradient.
    ignore_diagonal: leaves out pairs (i, i), the same view on both sides; the mean is over S·T − min(S, T) pairs.
    Raises BadInput for shapes that do not fit, an empty axis, no pair left, or temperature <= 0.
    Source: DINO, arXiv 2104.14294 §3.1; DINOv3 §3.2, arXiv 2508.10104.
    """
    students, images, _ = student.shape
    teachers, targets = len(teacher_probs), at_least_float32(teacher_probs.detach())
    # What a view is compared with is added up before: one visit instead of one for each teacher
    places = torch.arange(images, device=targets.device)
    if not ignore_diagonal:
        asked, rows, pairs = targets.sum(0), places.repeat(students), students * teachers
    elif students == teachers == 2:  # the recipe's: the other one, as it is
        asked, rows, pairs = targets.flatten(0, 1), torch.cat([places + images, places]), 2
    else:
        asked, rows = torch.cat([_others(targets, view) for view in range(students)]), None
        pairs = students * teachers - min(students, teachers)
    scores = student._replace(features=student.features.flatten(0, 1))
    share = targets.new_full((students * images,), 1 / (images * pairs))
    return cross_entropy(scores, asked, share, student_temperature, rows=rows)


def _others(targets: Float[Tensor, "T B K"], view: int) -> Float[Tensor, "B K"]:
    return targets[:view].sum(0) + targets[view + 1 :].sum(0)


TITLES = {"dino_global": "DINO, global crops", "dino_local": "DINO, local crops"}


def terms(own: Dino, outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """Global crops against the other one of their image, local crops against both."""
    if own.weight == 0:
        return {}
    temperature = own.student_temperature
    found = {"dino_global": dino_loss(outputs.dino_global, targets.dino, temperature, ignore_diagonal=True)}
    if outputs.dino_local is not None:
        found["dino_local"] = dino_loss(outputs.dino_local, targets.dino, temperature)
    return found


def factors(own: Dino, weight: float, local_crops: int) -> dict[str, float]:
    """Each term by its share of the crop pairs, as the official code applies it; the two shares sum to 1."""
    pairs_global, pairs_local = 2, 2 * local_crops
    share = pairs_global / (pairs_global + pairs_local)
    return {"dino_global": weight * share, "dino_local": weight * (1 - share) * own.local_weight}
