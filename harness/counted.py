"""One step counted before it runs: the real one on the meta device, its products and the tensors that it saves.

In float32 these are to the byte what the step keeps for its way back. The meta device rounds nothing: in bfloat16 half
of all is counted, but for the tokens that enter the branches of a block, which are added up in float32. Short of the
real step are then the rounded copies of the weights, 2 bytes a weight, and the losses' own float32.

A deep network is counted by two shallow ones: blocks that are alike cost the same, so a network of two blocks tells
what a first and a last one cost, and one of three what each between them adds. So are many images counted by fewer.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, astuple, dataclass, replace
from functools import cache
from typing import Any, TypeVar

import torch
from timm.models.convnext import ConvNeXt
from torch import nn

from common.errors import BadInput
from common.on_meta import Operations, on_meta
from harness import gram_teacher, gram_view
from harness.backbones.released import settled
from harness.config import SHARED, as_dict, identity
from harness.data.batches import Batch
from harness.data.sizes import refuse_uneven_crops, sides
from harness.distillation import FrozenTeacher, answers
from harness.forward import forward, masked_positions
from harness.model import Network, Sizes, build_backbone, patch_size, sizes_of
from harness.optimizer import build_optimizer, freeze_backbone
from harness.recipe import Model
from harness.schedules import at
from harness.settings import Experiment
from harness.state import State

SHALLOW = 2  # blocks of the less deep one of the two networks that stand for a deeper one
FEW = 10  # images of the smaller one of the two batches that stand for a large one; tenths of its crops are whole


@dataclass(frozen=True)
class Cost:
    """Of one step: floating-point operations, those of its backward pass among them, and bytes that it holds.

    weights: the student's. teachers: those of the EMA teacher, of Gram teachers and of a frozen one. activations: what
    is saved for the backward pass, and where blocks are computed anew the inside of the one that is; what an operation
    takes for itself while it runs is not among them.
    """

    flops: float
    backward: float
    weights: float
    teachers: float
    activations: float

    @property
    def memory(self) -> float:
        """Bytes in one process: the student's weights, their gradients and two moments, and all else."""
        return 4 * self.weights + self.teachers + self.activations

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(mine + its for mine, its in zip(astuple(self), astuple(other), strict=True)))

    def __sub__(self, other: Cost) -> Cost:
        return self + -1 * other

    def __rmul__(self, times: float) -> Cost:
        return Cost(*(times * mine for mine in astuple(self)))


T = TypeVar("T", float, Cost)
_counted: dict[str, Cost] = {}


def count(settings: Experiment, which: int = 0, teacher: Experiment | None = None) -> Cost:
    """Cost of the first step with these of its sides; `teacher`: the settings with the shapes of a frozen one."""

    def of(batched: Experiment) -> Cost:
        if teacher is None or not alike(teacher.model):
            return by_depth(lambda student: _count_once(student, which, teacher), batched)
        less, more = (at_depth(teacher, SHALLOW + blocks) for blocks in (0, 1))
        least = at_depth(batched, SHALLOW) if alike(batched.model) else batched
        block = _count_once(least, which, more) - _count_once(least, which, less)  # which the student has no part in
        deeper = (sizes_of(teacher.model).depth - SHALLOW) * block
        return by_depth(lambda student: _count_once(student, which, less), batched) + deeper

    found = by_batch(of, settings)
    if not settings.runtime.recompute or not _has_tokens(settings):
        return found
    inside = block_count(keeping(settings), which).activations - entering_bytes(settings, which)
    return replace(found, activations=found.activations + inside)  # of the one block that is being computed anew


def keeping(settings: Experiment) -> Experiment:
    """The settings of steps in which nothing is computed anew."""
    return replace(settings, runtime=replace(settings.runtime, recompute=False))


def entering_bytes(settings: Experiment, which: int = 0) -> float:
    """Bytes of what enters one of the student's blocks, for the whole batch, in float32 whatever the precision."""
    model, crops = sizes_of(settings.model), settings.crops
    side, local_side = sides(crops)[which][:2]
    local_count = crops.local_count if settings.dino.sees_locals else 0
    tokens = 2 * _tokens(model, side) + local_count * _tokens(model, local_side)
    return 4 * settings.data.batch_size * tokens * model.width


def _has_tokens(settings: Experiment) -> bool:
    """Whether the student's blocks are a ViT's, and are trained in the first step."""
    return not settings.optimizer.freeze_backbone_steps and _is_vit(_plain(settings.model))


@cache
def _is_vit(model: str) -> bool:
    with on_meta():
        return not isinstance(build_backbone(Model(**json.loads(model))), ConvNeXt)


def _tokens(model: Sizes, side: float) -> float:
    """Of a crop."""
    return (side // model.patch) ** 2 + model.prefix


def block_count(settings: Experiment, which: int = 0) -> Cost:
    """What each block beyond the first and the last adds to it."""
    less, more = (
        by_batch(lambda batched: _count_once(batched, which, None), at_depth(settings, SHALLOW + blocks))
        for blocks in (0, 1)
    )
    return more - less


def by_batch(of: Callable[[Experiment], T], settings: Experiment) -> T:
    """What is counted of a batch, from two smaller ones where it is large. A Gram matrix of all its patches grows with
    its square, and is counted whole; the cosines of KoLeo are next to nothing, in groups or not."""
    images = settings.data.batch_size
    if images <= 4 * FEW or (settings.gram.weight > 0 and settings.gram.level == "batch"):
        return of(settings)
    alone = replace(settings, koleo=replace(settings.koleo, group=None))
    less, more = (of(replace(alone, data=replace(settings.data, batch_size=n * FEW))) for n in (1, 2))
    return less + (images / FEW - 1) * (more - less)


def by_depth(of: Callable[[Experiment], T], settings: Experiment) -> T:
    """What is counted of a network, from two that are less deep where its blocks are alike."""
    if not alike(settings.model):
        return of(settings)
    less, more = (of(at_depth(settings, SHALLOW + blocks)) for blocks in (0, 1))
    return less + (sizes_of(settings.model).depth - SHALLOW) * (more - less)


def alike(model: Model) -> bool:
    """Whether a backbone is one row of blocks that are alike, and so many that it is worth the while."""
    return _alike(_plain(model))


@cache
def _alike(model: str) -> bool:
    deep = sizes_of(Model(**json.loads(model)))
    if deep.depth <= 2 * SHALLOW + 1:
        return False
    with suppress(BadInput):  # of a ConvNeXt, which has no such argument
        less, more = (sizes_of(_with_depth(Model(**json.loads(model)), SHALLOW + n)).weights for n in (0, 1))
        return deep.weights == less + (deep.depth - SHALLOW) * (more - less)
    return False


def at_depth(settings: Experiment, depth: int) -> Experiment:
    """The settings with a backbone of so many blocks."""
    return replace(settings, model=_with_depth(settings.model, depth))


def _with_depth(model: Model, depth: int) -> Model:
    own = settled(model)
    return replace(own, start_from=None, args={**own.args, "depth": depth})


def _plain(model: Model) -> str:
    """What shapes a backbone, to be told apart by."""
    return json.dumps(asdict(replace(settled(model), start_from=None)))


def _count_once(settings: Experiment, which: int, teacher: Experiment | None) -> Cost:
    """Of networks as deep as they are; equal ones are counted once."""
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
    counted = {key: as_dict(value) for key, value in vars(settings).items() if key not in idle}
    return {**counted, "batch_size": settings.data.batch_size, "recompute": settings.runtime.recompute}


def _count(settings: Experiment, which: int, its: Experiment | None) -> Cost:
    with on_meta():
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
    with Operations() as counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        total, *_ = forward(state, batch, now, settings, seed=0)
        forwards = counter.flops
        total.backward()
    weights, taught = bytes_of(student), bytes_of(asked.network) if asked else 0
    more = (own is not None) + gram_teacher.most_kept(settings.gram)
    teachers = weights + taught + more * bytes_of(teacher.backbone)
    activations = sum(storage.nbytes() for storage in saved.values())
    if settings.precision == "bfloat16":
        activations /= 2
        if _has_tokens(settings):  # of each block but the last, what enters it, and its MLP unless it is computed anew
            halves = 1 if settings.runtime.recompute else 2
            activations += halves * (sizes_of(settings.model).depth - 1) * entering_bytes(settings, which) / 2
    flops = counter.flops
    return Cost(float(flops), float(flops - forwards), weights, teachers, activations)


def answering_flops(teacher: Experiment, which: int) -> float:
    """Operations of a frozen teacher, as deep as it is, on one batch with these of its sides."""
    with on_meta():
        network = Network(teacher).eval()
    patch = patch_size(network.backbone)
    batch = shapes(teacher, patch, which)
    with Operations() as counter:
        answers(network, batch, masked_positions(batch), patch=patch, ibot=teacher.ibot.weight > 0)
    return float(counter.flops)


def image_flops(settings: Experiment, size: int) -> float:
    """Operations of the bare backbone, as deep as it is, on an image of `size` pixels."""
    return _image_flops(_plain(settings.model), size)


@cache
def _image_flops(model: str, size: int) -> float:
    with on_meta():
        backbone = build_backbone(Model(**json.loads(model))).eval()
    with Operations() as counter, torch.no_grad():
        backbone(torch.empty(1, 3, size, size, device="meta"))
    return float(counter.flops)


def network_bytes(settings: Experiment) -> float:
    """Bytes of a network's weights, backbone and heads, as deep as it is."""
    with on_meta():
        return bytes_of(Network(settings))


def bytes_of(network: nn.Module) -> int:
    """Bytes of a network's weights."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


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
