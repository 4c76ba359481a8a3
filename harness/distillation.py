"""Distillation: a frozen teacher with heads answers a batch, once for all students that learn from it side by side.

DINOv3 (arXiv 2508.10104) §5.2. C = 2B global crops, M sampled patches of them, P patches of the student's grid, K
prototypes, D the teacher's width.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from torch import Tensor

from common.disk import read_json
from common.errors import BadInput, found
from common.ranks import ALONE, Ranks
from common.schema import filled
from common.unchanged import until_changed
from evals.backbones import states
from evals.features.view import nearest_multiple
from harness.arms import TRUNK
from harness.backbones.compiled import settle
from harness.backbones.convnext import blocks
from harness.backbones.released import settled
from harness.data.batches import Batch
from harness.data.sizes import sides
from harness.gram_view import resize_patches
from harness.losses.head import Head
from harness.model import Network, encode, patch_size, sizes_of
from harness.recipe import Model
from harness.settings import Experiment
from harness.shards import fill, made, within

HEADS = ("dino", "ibot")  # losses whose heads the teacher has as well


# --- who it is


def named_arm(settings: Experiment) -> str | None:
    """The arm of the same experiment, or its trunk, that the student learns from; None where it is none of them."""
    teacher = settings.distillation.teacher
    return teacher if teacher in settings.arms or (teacher == TRUNK and settings.trunk.steps) else None


def teacher_settings(settings: Experiment, own: Experiment | None) -> Experiment | None:
    """The student's settings with the architecture and the heads of its teacher; None where its EMA is its teacher.

    own: the settings of the arm that is the teacher, where it is one. Raises `BadInput` as `read`.
    """
    if settings.distillation.teacher is None:
        return None
    if own is not None:
        return _with_shapes(settings, own.model, own.dino.head, own.ibot.head)
    return _with_shapes(settings, *_shapes_beside(Path(settings.distillation.teacher)))


def _with_shapes(settings: Experiment, model: Model, dino: Head, ibot: Head) -> Experiment:
    model = settled(model)
    return replace(
        settings,
        model=Model(name=model.name, args=model.args),
        dino=replace(settings.dino, head=dino),
        ibot=replace(settings.ibot, head=ibot),
    )


def _shapes_beside(state: Path) -> tuple[Model, Head, Head]:
    """Architecture and heads as the settings beside a training state tell them."""
    path = state.parent.parent / "identity.json"
    where = f"distillation.teacher={state}"
    if not state.exists() or not path.is_file():
        lost = state if not state.exists() else path
        raise BadInput(f"{where}: no file {lost}: want a state where training left it, in RUN/<arm>-s<seed>/states/")
    own = read_json(path, remedy="restore it")
    try:
        model = Model(name=own["model"]["name"], args=own["model"]["args"])
        dino, ibot = (filled(Head, own[name]["head"], where=str(path)) for name in HEADS)
    except (KeyError, TypeError) as error:
        raise BadInput(f"{where}: {path} does not tell its model and heads: want what training wrote") from error
    return model, dino, ibot


@until_changed()
def content(state: Path) -> dict[str, Any]:
    """What stands in a student's identity for a teacher: the segment that trained it, and the step.

    Raises `BadInput` for a file that is no training state, or not what was written.
    """
    header = _read(state).header
    return {"identity": header.identity, "step": header.step}


def _read(state: Path) -> states.Contents:
    try:
        return states.read(state)
    except (SafetensorError, OSError, BadInput) as error:
        raise BadInput(
            f"distillation.teacher={state} cannot be read as a training state ({found(error)}): want a whole one"
        ) from error


def refuse_unfit(settings: Experiment, own: Experiment | None) -> None:
    """Raises `BadInput` for a student that cannot learn from its teacher: other prototypes, or crops uneven to it.

    own: as in `teacher_settings`.
    """
    its = teacher_settings(settings, own)
    if its is None:
        return
    for name in HEADS:
        ours, theirs = (getattr(one, name).head.prototypes for one in (settings, its))
        if getattr(settings, name).weight > 0 and ours != theirs:
            raise BadInput(
                f"{name}.head.prototypes={ours}: want {theirs}, as many as the teacher {settings.distillation.teacher} "
                "has, since its assignments to them are learnt"
            )
    patch = sizes_of(its.model).patch
    for side in (int(one.globals) for one in sides(settings.crops)):
        if side % patch:
            raise BadInput(
                f"crops.global_size={side}: the teacher {settings.distillation.teacher} has patches of {patch}: want a "
                f"multiple; try {nearest_multiple(side, patch)}"
            )


# --- what it answers


class Answers(NamedTuple):
    """A teacher's answers to a batch, before Sinkhorn–Knopp: logits of class tokens, and of the sampled patches where
    they are asked for; all its patches on the student's grid, where they are."""

    dino: Float[Tensor, "C K"]
    ibot: Float[Tensor, "M K"] | None
    patches: Float[Tensor, "C P D"] | None


@torch.no_grad()
def answers(
    network: Network, batch: Batch, sampled: Int[Tensor, " M"], *, patch: int, ibot: bool, whole: bool = False
) -> Answers:
    """A teacher's answers on the unmasked global crops.

    sampled: flat indices into the student's patches; patch: its side in pixels. Where the teacher's is another, its
    patches are averaged over each of the student's (or repeated) before the head: the student has a place for no more.
    whole: whether all its patches are asked for.
    """
    return within(network, partial(_answers, network, batch, sampled, patch=patch, ibot=ibot, whole=whole))


def _answers(
    network: Network, batch: Batch, sampled: Int[Tensor, " M"], *, patch: int, ibot: bool, whole: bool
) -> Answers:
    side, own = batch.globals.shape[-1], patch_size(network.backbone)
    some = own == patch and not whole
    tokens = encode(network.backbone, batch.globals.flatten(0, 1), picked=sampled if some else None)
    patches = None if some else resize_patches(tokens.patches, side // own, side // patch, how="area")
    picked = None
    if ibot:
        chosen = tokens.patches if patches is None else patches.flatten(0, 1).index_select(0, sampled)
        picked = network.ibot_head(chosen).logits()
    return Answers(network.dino_head(tokens.cls).logits(), picked, patches if whole else None)


class FrozenTeacher:
    """A network that never changes; the last batch's answers are kept, for students that learn from it side by side."""

    def __init__(self, network: Network) -> None:
        self.network = network.requires_grad_(False).eval()
        self._asked: tuple[Tensor, int, bool] | None = None
        self._answers: Answers | None = None

    def __call__(self, batch: Batch, sampled: Int[Tensor, " M"], *, patch: int, ibot: bool) -> Answers:
        """As `answers`; computed once for one batch, whoever asks."""
        same = self._asked is not None and self._asked[0] is batch.globals and self._asked[1:] == (patch, ibot)
        if not same or self._answers is None:
            self._asked = self._answers = None  # what the batch before took is free for this one
            self._answers = answers(self.network, batch, sampled, patch=patch, ibot=ibot)
            self._asked = batch.globals, patch, ibot
        return self._answers


_READ: WeakValueDictionary[tuple[Any, ...], FrozenTeacher] = WeakValueDictionary()


def read(state: Path, settings: Experiment, device: torch.device, ranks: Ranks = ALONE) -> FrozenTeacher:
    """The EMA teacher of a training state with its heads; one in this process for all that learn from it meanwhile.

    settings: the student's. ranks: those that each hold a part of it, which the first one reads.
    Raises `BadInput` for a state that is damaged, or not of the settings beside it.
    """
    key = (str(state.resolve()), settings.precision, str(device), settings.runtime.compile, ranks)
    teacher = _READ.get(key)
    if not all(ranks.gathered(teacher is not None)):
        shaped = _with_shapes(settings, *ranks.told(lambda: _shapes_beside(state)))
        if ranks.world == 1:
            network = _whole(state, shaped)
            settle(network.backbone, settings.runtime.compile, device)
            network = network.to(device)
        else:
            network = made(lambda: Network(shaped), lambda one: blocks(one.backbone), device, trained=False)
            given = ranks.led(lambda: _whole(state, shaped).state_dict())
            fill(network.state_dict(), given, ranks)
        teacher = _READ[key] = FrozenTeacher(network)
    assert teacher is not None, "it was read, now or before"
    return teacher


def _whole(state: Path, shaped: Experiment) -> Network:
    network = Network(shaped)
    tensors = _read(state).tensors  # a norm of local crops apart, of which a teacher sees none
    its = (name for name in tensors if name.startswith("teacher.") and "local_cls_norm" not in name)
    own = {name.removeprefix("teacher."): tensors[name] for name in its}
    try:
        network.load_state_dict(own)
    except RuntimeError as error:
        raise BadInput(
            f"distillation.teacher={state} does not fit the settings beside it ({found(error)}): want what "
            "training wrote"
        ) from error
    return network
