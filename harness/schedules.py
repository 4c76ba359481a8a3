"""Schedules: pure functions from the step to every value that changes over a run. Nothing else counts steps.

All are constant after their warm-up (DINOv3, arXiv 2508.10104 §3.2), so none depends on how long a run will be.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from harness.settings import Experiment, Gram, GramTeacher, Scaling


class At(NamedTuple):
    """The values that hold in one step."""

    step: int
    lr: float
    last_layer_lr: float
    temperature: float
    momentum: float
    gram_weight: float
    renew_anchor: bool


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
        gram_weight=gram_weight(settings.gram, step),
        renew_anchor=renews_anchor(settings.gram, step),
    )


def linear_warmup(step: int, *, start: float, peak: float, steps: int) -> float:
    """From `start` at step 0 straight to `peak` at step `steps`, constant from there."""
    return peak if step >= steps else start + (peak - start) * step / steps


def peak_lr(settings: Experiment) -> float:
    """The learning rate after scaling by batch size (recipe `sqrt_wrt_1024`: lr · 4 · sqrt(batch / 1024))."""
    batch = settings.data.batch_size
    factor = {
        Scaling.none: 1.0,
        Scaling.sqrt_wrt_1024: 4 * math.sqrt(batch / 1024),
        Scaling.linear_wrt_256: batch / 256,
    }
    return settings.optimizer.lr * factor[settings.optimizer.lr_scaling]


def gram_weight(gram: Gram, step: int) -> float:
    """Zero before `start_step`, a half-cosine to the weight over `warmup_steps` (ends included), then constant."""
    if step < gram.start_step:
        return 0.0
    done = step - gram.start_step
    if done >= gram.warmup_steps - 1:
        return gram.weight
    return gram.weight * (1 - math.cos(math.pi * done / (gram.warmup_steps - 1))) / 2


def renews_anchor(gram: Gram, step: int) -> bool:
    """Whether the Gram teacher becomes a copy of the EMA teacher just before `step` is taken."""
    if gram.weight == 0 or gram.teacher is GramTeacher.ema:
        return False
    if gram.teacher is GramTeacher.snapshot and step == gram.snapshot_step:
        return True
    since = step - gram.start_step
    return gram.update_every is not None and since > 0 and since % gram.update_every == 0


def needs_gram_crops(gram: Gram, step: int) -> bool:
    """Whether `step` needs crops for the Gram teacher; the EMA teacher sees the distorted ×1 crops in any case."""
    seen = gram.teacher is GramTeacher.ema and not gram.undistorted and gram.resolution == 1
    return uses_gram(gram, step) and not seen


def uses_gram(gram: Gram, step: int) -> bool:
    """Whether `step` computes the Gram loss."""
    return gram.weight > 0 and step >= gram.start_step
