"""What a run will cost, before it runs: of each step, of all of them, of the forward passes beside them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import pairwise
from typing import NamedTuple

import torch

from common.speed import block_rate
from evals.features.view import refuse_uneven
from harness import gram_teacher, gram_view
from harness.counted import Cost, answering_flops, block_count, by_batch, by_depth, count, image_flops, network_bytes
from harness.data.sizes import most_seen, refuse_uneven_crops, sides
from harness.model import sizes_of
from harness.settings import Experiment

EFFICIENCY = 0.65  # of a block's rate: nano and ViT-S/16 steps reached 0.5 to 1.0 of it, in both precisions (CPU)
LIBRARIES_GIB = 1.3  # resident besides the model: torch, timm, pandas, matplotlib, decoded images


def step_cost(settings: Experiment, *, gram: bool, frozen: bool = False, teacher: Experiment | None = None) -> Cost:
    """Cost of a training step with or without the Gram loss, and with the backbone frozen or not.

    teacher: the settings with the shapes of a frozen teacher.
    Where crops have mixed sizes: the operations of the mean step, the memory of the largest. No memory is taken, and
    equal arms are counted once.
    """
    settings = _first_step(settings, gram=gram, frozen=frozen)
    costs = [count(settings, which, teacher) for which in range(len(sides(settings.crops)))]
    if len(costs) == 1:
        return costs[0]
    return replace(max(costs, key=_memory), **{kind: _mean(settings, costs, kind) for kind in ("flops", "backward")})


def block_cost(settings: Experiment, *, gram: bool) -> Cost:
    """What each block of the step adds, in the student and in the EMA and Gram teachers that are as deep; of the sides
    whose crops take most. Its backbone must have blocks that are `alike`."""
    settings = _first_step(settings, gram=gram)
    return max((block_count(settings, which) for which in range(len(sides(settings.crops)))), key=_memory)


def _first_step(settings: Experiment, *, gram: bool, frozen: bool = False) -> Experiment:
    """The settings by which the first step is of the kind that is to be counted."""
    optimizer = replace(settings.optimizer, freeze_backbone_steps=int(frozen))
    return replace(settings, gram=gram_teacher.as_counted(settings.gram, on=gram), optimizer=optimizer)


def _memory(cost: Cost) -> float:
    return cost.memory


def _mean(settings: Experiment, costs: Sequence[Cost], kind: str) -> float:
    """Over steps whose crops have these sides."""
    chances = [one.probability for one in sides(settings.crops)]
    return sum(chance * getattr(one, kind) for chance, one in zip(chances, costs, strict=True)) / sum(chances)


class Stretch(NamedTuple):
    """Steps from `first` to before `last` that cost the same, and the operations of one of them."""

    first: int
    last: int
    flops: float


def stretches(
    settings: Experiment, start: int, stop: int, *, origin: int, teacher: Experiment | None = None
) -> list[Stretch]:
    """What the training steps from `start` to `stop` cost: some are frozen, some anchored.

    origin: from which schedules count; teacher: as in `step_cost`.
    """
    anchored = settings.gram.first_step if settings.gram.weight > 0 else stop
    thawed = origin + settings.optimizer.freeze_backbone_steps
    edges = sorted({start, stop, *(edge for edge in (anchored, thawed) if start < edge < stop)})
    return [
        Stretch(
            first,
            last,
            step_cost(settings, gram=first >= anchored, frozen=first < thawed, teacher=teacher).flops,
        )
        for first, last in pairwise(edges)
    ]


def flops(settings: Experiment, start: int, stop: int, *, origin: int, teacher: Experiment | None = None) -> float:
    """Floating-point operations of the training steps from `start` to `stop`; arguments as in `stretches`."""
    found = stretches(settings, start, stop, origin=origin, teacher=teacher)
    return sum(one.flops * (one.last - one.first) for one in found)


def teacher_flops(teacher: Experiment) -> float:
    """Operations of a frozen teacher on one batch, the mean where crops have mixed sizes; its students' are apart."""
    found = [
        by_batch(partial(by_depth, partial(answering_flops, which=which)), teacher)
        for which in range(len(sides(teacher.crops)))
    ]
    chances = [one.probability for one in sides(teacher.crops)]
    return sum(chance * flops for chance, flops in zip(chances, found, strict=True)) / sum(chances)


def teacher_bytes(teacher: Experiment) -> float:
    """Bytes of a frozen teacher's weights, which `step_cost` counts for each of its students."""
    return by_depth(network_bytes, teacher)


def refuse_unfit_crops(settings: Experiment) -> None:
    """Raises `BadInput` for crops, those of the Gram teacher included, that patches do not divide."""
    patch = sizes_of(settings.model).patch
    refuse_uneven_crops(settings.crops, patch)
    gram_view.crops(settings.gram, settings.crops, patch)


def watch_flops(settings: Experiment, start: int, stop: int) -> float:
    """Operations of measuring the EMA teacher from `start` to `stop`: those of its forward passes, which rule in it."""
    gram, images = settings.gram, settings.gram.measure_images
    times = len([*gram_teacher.measured(gram, start, stop)])
    return times and times * images * forward_flops(settings, most_seen(sides(settings.crops)))


def forward_flops(settings: Experiment, size: int) -> float:
    """Operations of the bare backbone on an image of `size` pixels. Raises `BadInput` unless patches divide it."""
    refuse_uneven(f"evals.size={size}", size, sizes_of(settings.model).patch)
    return by_depth(partial(image_flops, size=size), settings)


def machine_rate(settings: Experiment, device: torch.device) -> float:
    """Operations a second of a ViT block at this model's width, in its precision, as a process finds them first."""
    return _rate(device, sizes_of(settings.model).width, settings.precision, torch.get_num_threads())


@cache
def _rate(device: torch.device, width: int, precision: str, threads: int) -> float:
    """The best of a few measurements; the threads are torch's present ones."""
    return max(block_rate(device, width=width, precision=precision, seconds=0.05) for _ in range(6))
