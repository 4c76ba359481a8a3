"""What a step will cost, before it runs: the real step on the meta device, its products and saved tensors counted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from common.speed import block_rate
from evals.features.view import refuse_uneven
from harness import gram_teacher, gram_view
from harness.backbones.released import settled
from harness.config import SHARED, as_dict, identity
from harness.data.batches import Batch
from harness.data.sizes import most_seen, refuse_uneven_crops, sides
from harness.distillation import FrozenTeacher, answers
from harness.forward import forward, masked_positions
from harness.model import Network, build_backbone, patch_size, sizes_of
from harness.optimizer import build_optimizer, freeze_backbone
from harness.recipe import Model
from harness.schedules import at
from harness.settings import Experiment
from harness.state import State

EFFICIENCY = 0.65  # of a block's rate: nano and ViT-S/16 steps reached 0.5 to 1.0 of it, in both precisions (CPU)
LIBRARIES_GIB = 1.3  # resident besides the model: torch, timm, pandas, matplotlib, decoded images


@dataclass(frozen=True)
class Cost:
    """Of one step: floating-point operations, and bytes held at its peak (weights, moments, gradients, activations)."""

    flops: float
    memory: float


_counted: dict[str, Cost] = {}


def step_cost(settings: Experiment, *, gram: bool, frozen: bool = False, teacher: Experiment | None = None) -> Cost:
    """Cost of a training step with or without the Gram loss, and with the backbone frozen or not.

    teacher: the settings with the shapes of a frozen teacher.
    Where crops have mixed sizes: the operations of the mean step, the memory of the largest. No memory is taken, and
    equal arms are counted once.
    """
    optimizer = replace(settings.optimizer, freeze_backbone_steps=int(frozen))
    settings = replace(settings, gram=gram_teacher.as_counted(settings.gram, on=gram), optimizer=optimizer)
    costs = [_cost_of(settings, which, teacher) for which in range(len(sides(settings.crops)))]
    if len(costs) == 1:
        return costs[0]
    chances = [one.probability for one in sides(settings.crops)]
    mean = sum(chance * cost.flops for chance, cost in zip(chances, costs, strict=True)) / sum(chances)
    return Cost(mean, max(cost.memory for cost in costs))


def _cost_of(settings: Experiment, which: int, teacher: Experiment | None) -> Cost:
    """Of a step with these of its sides."""
    its = None if teacher is None else _sizing(teacher)
    key = identity(_sizing(settings), which, settings.optimizer.freeze_backbone_steps, its)
    if key not in _counted:
        _counted[key] = _count(settings, which, teacher)
    return _counted[key]


def _sizing(settings: Experiment) -> dict[str, Any]:
    """All settings but those that change no operation and no tensor, which are the ones that are listed here.

    What is forgotten in the list is counted a second time; were it a list of what counts, arms would get one another's
    costs.
    """
    idle = {*SHARED, "teacher", "distillation", "optimizer", "schedule", "data"}
    counted = {key: value for key, value in as_dict(settings).items() if key not in idle}
    return {**counted, "batch_size": settings.data.batch_size}


def _count(settings: Experiment, which: int, its: Experiment | None) -> Cost:
    with torch.device("meta"):
        asked = FrozenTeacher(Network(its)) if its is not None else None
        student, teacher = Network(settings), Network(settings)
        own = build_backbone(settings.model) if gram_teacher.is_separate(settings.gram) else None
    teacher.requires_grad_(False)
    optimizer = build_optimizer(student, settings.optimizer)
    state = State(0, student.train(), teacher.eval(), optimizer, own, frozen=asked)
    batch = shapes(settings, patch_size(student.backbone), which)
    saved: dict[int, torch.UntypedStorage] = {}
    weights_of_student = {p.untyped_storage()._cdata for p in student.parameters()}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in weights_of_student:
            saved[storage._cdata] = storage
        return tensor

    now = at(settings, 0, stop=settings.steps)
    freeze_backbone(student, now.backbone_frozen)
    with FlopCounterMode(display=False) as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        total, *_ = forward(state, batch, now, settings, seed=0)
        total.backward()
    weights, taught = bytes_of(student), bytes_of(asked.network) if asked else 0
    more = (own is not None) + gram_teacher.most_kept(settings.gram)
    frozen = weights + taught + more * bytes_of(teacher.backbone)
    activations = sum(storage.nbytes() for storage in saved.values())
    if settings.precision == "bfloat16":
        activations /= 2
    return Cost(float(counter.get_total_flops()), 4 * weights + frozen + activations)


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
    with torch.device("meta"):
        network, found = Network(teacher).eval(), list[float]()
    for which in range(len(sides(teacher.crops))):
        batch, patch = shapes(teacher, patch_size(network.backbone), which), patch_size(network.backbone)
        with FlopCounterMode(display=False) as counter:
            answers(network, batch, masked_positions(batch), patch=patch, ibot=teacher.ibot.weight > 0)
        found.append(float(counter.get_total_flops()))
    chances = [one.probability for one in sides(teacher.crops)]
    return sum(chance * flops for chance, flops in zip(chances, found, strict=True)) / sum(chances)


def teacher_bytes(teacher: Experiment) -> int:
    """Bytes of a frozen teacher's weights, which `step_cost` counts for each of its students."""
    with torch.device("meta"):
        return bytes_of(Network(teacher))


def bytes_of(network: nn.Module) -> int:
    """Bytes of a network's weights."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


def refuse_unfit_crops(settings: Experiment) -> None:
    """Raises `BadInput` for crops, those of the Gram teacher included, that patches do not divide."""
    patch = sizes_of(settings.model).patch
    refuse_uneven_crops(settings.crops, patch)
    gram_view.crops(settings.gram, settings.crops, patch)


def shapes(settings: Experiment, patch: int, which: int = 0) -> Batch:
    """A batch of the right shapes, `which` of its sides, on the meta device; masks are real, their usual share set."""
    images, crops = settings.data.batch_size, settings.crops
    refuse_uneven_crops(crops, patch)
    gram = gram_view.crops(settings.gram, crops, patch)
    side, local_side = (int(side) for side in sides(crops)[which][:2])
    positions = (side // patch) ** 2
    masks = torch.zeros(2 * images, positions, dtype=torch.bool)
    ratio = (settings.ibot.mask_ratio_min + settings.ibot.mask_ratio_max) / 2
    masks[: int(2 * images * settings.ibot.mask_probability), : int(positions * ratio)] = True

    def empty(views: int, side: int) -> torch.Tensor:
        return torch.empty(views, images, 3, side, side, device="meta")

    return Batch(
        globals=empty(2, side),
        locals=empty(crops.local_count, local_side),
        gram=empty(2, gram.sizes[which]) if gram and gram.are_made(settings.gram.first_step, which, side) else None,
        masks=masks,
        indices=torch.arange(images),
        component=None,
    )


def watch_flops(settings: Experiment, start: int, stop: int) -> float:
    """Operations of measuring the EMA teacher from `start` to `stop`: those of its forward passes, which rule in it."""
    gram, images = settings.gram, settings.gram.measure_images
    times = len([*gram_teacher.measured(gram, start, stop)])
    return times and times * images * forward_flops(settings, most_seen(sides(settings.crops)))


def forward_flops(settings: Experiment, size: int) -> float:
    """Operations of the bare backbone on an image of `size` pixels. Raises `BadInput` unless patches divide it."""
    return _forward_flops(json.dumps(asdict(replace(settled(settings.model), start_from=None))), size)


@cache
def _forward_flops(model: str, size: int) -> float:
    with torch.device("meta"):
        backbone = build_backbone(Model(**json.loads(model))).eval()
    patch = patch_size(backbone)
    refuse_uneven(f"evals.size={size}", size, patch)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        backbone(torch.empty(1, 3, size, size, device="meta"))
    return float(counter.get_total_flops())


def machine_rate(settings: Experiment, device: torch.device) -> float:
    """Operations a second of a ViT block at this model's width, in its precision: the best of a few measurements."""
    how = {"width": sizes_of(settings.model).width, "precision": settings.precision, "seconds": 0.05}
    return max(block_rate(device, **how) for _ in range(6))
