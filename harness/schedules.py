"""Schedules: pure functions from the step to every value that changes over a run; nothing else counts steps.

All are constant after their warm-up (DINOv3, arXiv 2508.10104 §3.2), so none depends on how long a run will be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

from harness import gram_teacher
from harness.losses.table import LOSSES
from harness.settings import Experiment


class At(NamedTuple):
    """The values that hold in one step; `factors` are those of all loss terms in the total, by name."""

    step: int
    lr: float
    last_layer_lr: float
    temperature: float
    momentum: float
    factors: Mapping[str, float]
    renew_gram_teacher: bool


def at(settings: Experiment, step: int) -> At:
    """Every scheduled value at `step` (0 is the first)."""
    lr = linear_warmup(step, start=0.0, peak=peak_lr(settings), steps=settings.optimizer.warmup_steps)
    teacher = settings.teacher
    return At(
        step=step,
        lr=lr,
        last_layer_lr=0.0 if step < settings.optimizer.freeze_last_layer_steps else lr,
        temperature=linear_warmup(
            step, start=teacher.temperature_start, peak=teacher.temperature, steps=teacher.temperature_warmup_steps
        ),
        momentum=teacher.momentum,
        factors=factors(settings, step),
        renew_gram_teacher=gram_teacher.is_renewed(settings.gram, step),
    )


def linear_warmup(step: int, *, start: float, peak: float, steps: int) -> float:
    """From `start` at step 0 straight to `peak` at step `steps`, constant from there."""
    return peak if step >= steps else start + (peak - start) * step / steps


def peak_lr(settings: Experiment) -> float:
    """The learning rate after scaling by batch size (recipe `sqrt_wrt_1024`: lr · 4 · sqrt(batch / 1024))."""
    batch = settings.data.batch_size
    factor = {
        "none": 1.0,
        "sqrt_wrt_1024": 4 * math.sqrt(batch / 1024),
        "linear_wrt_256": batch / 256,
    }
    return settings.optimizer.lr * factor[settings.optimizer.lr_scaling]


def factors(settings: Experiment, step: int) -> dict[str, float]:
    """The factor of every loss term in the total at `step`, by name."""
    local_crops = settings.crops.local_count
    return {
        term: factor
        for name, loss in LOSSES.items()
        for term, factor in loss.factors(getattr(settings, name), step, local_crops).items()
    }
