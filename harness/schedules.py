"""Schedules: pure functions from the step to every value that changes over a run; nothing else counts steps.

Without an end they are constant after their warm-up (DINOv3, arXiv 2508.10104 §3.2), so that none depends on how long a
run will be. The formulas are those of the recipe's two schedules (docs/schedules.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from harness import gram_teacher
from harness.losses.table import LOSSES
from harness.recipe import Shape
from harness.settings import Experiment


class At(NamedTuple):
    """The values that hold in one step; `factors` are those of all loss terms in the total, by name."""

    step: int
    lr: float
    last_layer_lr: float
    weight_decay: float
    temperature: float
    momentum: float
    factors: Mapping[str, float]
    renew_gram_teacher: bool
    backbone_frozen: bool


def at(settings: Experiment, step: int, *, origin: int = 0, stop: int | None = None) -> At:
    """Every scheduled value at `step` (0 is the first of the run).

    origin: the step that warm-ups and ways to an end count from (`Job.origin`); stop: where the segment ends, which
    schedules with an end but no step of it need.
    """
    optimizer, teacher = settings.optimizer, settings.teacher
    lr = rate(settings, step, origin=origin, stop=stop)
    return At(
        step=step,
        lr=lr,
        last_layer_lr=0.0 if step - origin < optimizer.freeze_last_layer_steps else lr,
        weight_decay=_going(
            settings, step, optimizer.weight_decay, optimizer.weight_decay_end, begin=origin, stop=stop
        ),
        temperature=linear_warmup(
            step - origin,
            start=teacher.temperature_start,
            peak=teacher.temperature,
            steps=teacher.temperature_warmup_steps,
        ),
        momentum=_going(settings, step, teacher.momentum, teacher.momentum_end, begin=origin, stop=stop),
        factors=factors(settings, step, stop=stop),
        renew_gram_teacher=gram_teacher.is_renewed(settings.gram, step),
        backbone_frozen=step - origin < optimizer.freeze_backbone_steps,
    )


# --- what they count from, and where they end


def counts_from_segment(settings: Experiment) -> bool:
    """Whether a value depends on where its segment begins."""
    optimizer, teacher = settings.optimizer, settings.teacher
    frozen = (optimizer.freeze_last_layer_steps, optimizer.freeze_backbone_steps)
    counted = (optimizer.warmup_steps, *frozen, teacher.temperature_warmup_steps)
    return settings.schedule.counts_from == "segment" and (any(counted) or bool(ends(settings)))


def end(settings: Experiment, stop: int) -> int | None:
    """`stop`, where a value depends on the segment's ending there; else None, and the segment can be extended."""
    return stop if ends(settings) and settings.schedule.end_step is None else None


def ends(settings: Experiment) -> dict[str, float]:
    """The settings that give a value an end, by their keys."""
    found = {
        "optimizer.lr_end": settings.optimizer.lr_end,
        "optimizer.weight_decay_end": settings.optimizer.weight_decay_end,
        "teacher.momentum_end": settings.teacher.momentum_end,
        "gram.weight_end": settings.gram.weight_end if settings.gram.weight > 0 else None,
    }
    return {key: value for key, value in found.items() if value is not None}


# --- the values


def rate(settings: Experiment, step: int, *, origin: int, stop: int | None) -> float:
    """The learning rate: a line to its peak, then constant or on its way to its end."""
    optimizer, scale = settings.optimizer, lr_scale(settings)
    peak, warm = optimizer.lr * scale, origin + optimizer.warmup_steps
    if step < warm:
        return linear_warmup(step - origin, start=optimizer.lr_start, peak=peak, steps=optimizer.warmup_steps)
    last = None if optimizer.lr_end is None else optimizer.lr_end * scale
    return _going(settings, step, peak, last, begin=warm, stop=stop)


def linear_warmup(step: int, *, start: float, peak: float, steps: int) -> float:
    """From `start` at step 0 straight to `peak` at step `steps`, constant from there."""
    return peak if step >= steps else start + (peak - start) * step / steps


def transition(step: int, *, first: float, last: float, begin: int, end: int, shape: Shape) -> float:
    """`first` in step `begin`, `last` in the last step before `end` and from there on, in between the given shape."""
    if step >= end - 1:
        return last
    share = (step - begin) / (end - 1 - begin)
    return first + (last - first) * (share if shape == "linear" else (1 - math.cos(math.pi * share)) / 2)


def _going(settings: Experiment, step: int, first: float, last: float | None, *, begin: int, stop: int | None) -> float:
    """`first` where there is no `last`, else on the way from step `begin` to where the schedules end."""
    if last is None:
        return first
    end = settings.schedule.end_step or stop
    assert end is not None, "what ends with its segment needs to know where that is"
    return transition(step, first=first, last=last, begin=begin, end=end, shape=settings.schedule.shape)


def lr_scale(settings: Experiment) -> float:
    """What the batch size scales the rate by (recipe `sqrt_wrt_1024`: 4 · sqrt(batch / 1024))."""
    batch = settings.data.batch_size
    factor = {
        "none": 1.0,
        "sqrt_wrt_1024": 4 * math.sqrt(batch / 1024),
        "linear_wrt_256": batch / 256,
    }
    return factor[settings.optimizer.lr_scaling]


def gram_weight(settings: Experiment, step: int, *, stop: int | None) -> float:
    """The weight of what is anchored: a half-cosine to its peak, then constant or on its way to its end."""
    gram = settings.gram
    if gram.weight == 0 or gram.awaits_alarm or step < gram.warm_step:
        return gram.weight_at(step)
    return _going(settings, step, gram.weight, gram.weight_end, begin=gram.warm_step, stop=stop)


def local_weight(settings: Experiment, step: int) -> float:
    """Of the local crops' part of DINO: as far from its start as the Gram weight is on its way to its peak."""
    dino, gram = settings.dino, settings.gram
    if dino.local_weight_start is None or gram.weight == 0:
        return dino.local_weight
    done = gram.weight_at(step) / gram.weight
    return dino.local_weight_start + (dino.local_weight - dino.local_weight_start) * done


def factors(settings: Experiment, step: int, *, stop: int | None) -> dict[str, float]:
    """The factor of every loss term in the total at `step`, by name."""
    moving = gram_weight(settings, step, stop=stop)
    given = {name: getattr(settings, name) for name in LOSSES}
    given["dino"] = replace(settings.dino, local_weight=local_weight(settings, step))
    local_crops = settings.crops.local_count
    return {
        term: factor
        for name, loss in LOSSES.items()
        for own in [given[name]]
        for term, factor in loss.factors(own, moving if loss.anchored else own.weight, local_crops).items()
    }
