"""Full training state on disk, as safetensors: written whole or not at all, read without executing code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from common.disk import whole
from common.errors import BadInput, found
from common.on_meta import on_meta
from common.steps import files_by_step
from common.unchanged import until_changed
from evals.backbones.digest import KEY, refuse_changed, sealed, tell_of_no_digest
from evals.backbones.state_header import Header
from evals.backbones.states import Contents, checked, read
from evals.backbones.weights import read_safetensors, refuse_differences, refuse_non_finite
from harness.dense_watch import Seen
from harness.model import Network
from harness.settings import Experiment
from harness.state import State, frozen_copy

NETWORKS = ("student.", "teacher.")
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_DAMAGE = (SafetensorError, OSError, RuntimeError, KeyError, ValueError)


class Damaged(BadInput):
    """A state that cannot be read, or is not what was written."""


def save_state(state: State, path: Path, *, identity: str) -> None:
    """Write `state` whole to `path`; `identity` is the hash of the settings that it belongs to."""
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors_of(state).items()}
    _write(path, about(state, identity), tensors)


def _write(path: Path, said: Mapping[str, str], tensors: dict[str, Tensor]) -> None:
    """A file of tensors, whole and with the digest of it all."""
    with whole(path) as new:
        save_file(tensors, new, metadata=sealed(said, tensors))


def about(state: State, identity: str) -> dict[str, str]:
    """What is written of a state beside its tensors."""
    seen = state.seen
    return Header(state.step, identity, state.gram_teacher is not None, seen.values, tuple(seen.ring)).written()


def load_state(state: State, path: Path, *, identity: str | None) -> None:
    """Fill `state` in place from `path`; a Gram teacher is made like the teacher unless the state has one already.

    Raises `BadInput` when the file is damaged or changed, of other settings, or of other shapes.
    """
    header, tensors, digested = _contents(path, identity)
    try:
        own = state.gram_teacher or frozen_copy(state.teacher.backbone)
        state.gram_teacher = own if header.anchor else None
        ring = {step: frozen_copy(state.teacher.backbone).cpu() for step in header.ring}
        state.seen = Seen(dict(header.values), ring)
        restore(state, tensors, path)
    except BadInput:
        raise
    except _DAMAGE as error:
        raise unreadable(path, error) from error
    if not digested:
        tell_of_no_digest(path)
    state.step = header.step


@until_changed()
def verified_step(path: Path, *, identity: str | None) -> int:
    """The step of a saved state that is whole. Raises `BadInput` as `load_state`, shapes left aside."""
    with readable(path):
        header = checked(path)
    refuse_other_settings(header, path, identity)
    return header.step


def _contents(path: Path, identity: str | None) -> Contents:
    with readable(path):
        contents = read(path)
    refuse_other_settings(contents.header, path, identity)
    return contents


def refuse_other_settings(header: Header, path: Path, identity: str | None) -> None:
    """Raises `BadInput` for a state whose header names another identity than that, where one is given."""
    if identity not in (None, header.identity):
        raise BadInput(f"{path} was written under other settings ({header.identity}, now {identity}): use another name")


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Inside, whatever keeps a state from being read is raised as `Damaged`; missing rights are not its damage."""
    try:
        yield
    except PermissionError as error:
        raise BadInput(f"{path} cannot be read ({found(error)}): want a state that this user may read") from error
    except _DAMAGE as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> Damaged:
    """The error for a state that cannot be read."""
    return Damaged(f"{path} cannot be read as a training state ({found(error)}): want a whole one")


def latest_states(folder: Path) -> list[Path]:
    """Saved states in `folder`, newest first."""
    return [*files_by_step(folder, ".safetensors").values()][::-1]


def load_weights(state: State, path: Path) -> None:
    """Start student and teacher from a weights-only file with keys `student.…` and `teacher.…`, strictly by name.

    Where the file holds the teacher alone, the student begins as it does.
    """
    if not path.is_file():
        raise BadInput(f"trunk.checkpoint={path}: no such file; want a .safetensors written by harness/export_trunk.py")
    try:
        header, held = read_safetensors(path)
        if KEY in header:  # a file without one is bound to the run by its content
            refuse_changed(header, held, source="content", before=())
    except BadInput as error:
        raise BadInput(
            f"trunk.checkpoint={path} cannot be read ({found(error)}): want whole safetensors; copy it again"
        ) from error
    tensors = _for_both({key: tensor.float() for key, tensor in held.items()})
    own = {key: t for key, t in tensors_of(state).items() if key.startswith(NETWORKS)}
    _copy_all(own, _local_norms(own, tensors), path)
    refuse_non_finite(f"trunk.checkpoint={path}", own)


def refuse_unfit(path: Path, settings: Experiment) -> None:
    """Raises `BadInput` for weights that `load_weights` would refuse for their names or shapes."""
    with on_meta():
        network = Network(settings)
    own = {f"{name}{key}": tensor for name in NETWORKS for key, tensor in network.state_dict().items()}
    refuse_other_tensors(own, _local_norms(own, _for_both(_without_weights(path))), f"trunk.checkpoint={path}")


def _for_both(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, with those of the teacher for the student where there are none of it."""
    student, teacher = NETWORKS
    if any(key.startswith(student) for key in tensors):
        return tensors
    given = {student + key.removeprefix(teacher): value for key, value in tensors.items() if key.startswith(teacher)}
    return tensors | given


@until_changed()
def _without_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a file on the meta device; it is read once, however many arms begin with it."""
    return {key: tensor.to("meta") for key, tensor in read_safetensors(path)[1].items()}


def export_weights(source: Path, target: Path, *, dtype: torch.dtype, teacher_alone: bool = False) -> None:
    """Copy student and teacher out of a saved state, weights only, rounded to `dtype`. Raises as `load_state`."""
    header, tensors, _ = _contents(source, None)
    wanted = NETWORKS[1:] if teacher_alone else NETWORKS
    keep = {key: tensor.to(dtype) for key, tensor in tensors.items() if key.startswith(wanted)}
    refuse_non_finite(f"{source} as {dtype}", keep)
    _write(target, {"step": str(header.step)}, keep)


def merge(source: Path, target: Path) -> None:
    """Write a saved state, folder or file, as one file. Raises as `load_state`."""
    header, tensors, _ = _contents(source, None)
    _write(target, header.written(), tensors)


def tensors_of(state: State) -> dict[str, Tensor]:
    """Every tensor of a state by name; optimizer moments are named after their parameters."""
    networks: dict[str, nn.Module] = {"student": state.student, "teacher": state.teacher}
    if state.gram_teacher is not None:
        networks["anchor"] = state.gram_teacher
    networks |= {f"ring.{step}": network for step, network in state.seen.ring.items()}
    tensors = {f"{net}.{key}": value for net, module in networks.items() for key, value in module.state_dict().items()}
    for group in state.optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for moment, value in state.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{moment}.{name}"] = value
    return tensors


def restore(state: State, tensors: dict[str, Tensor], source: Path | str) -> None:
    """Put every tensor where it belongs; the optimizer's moments are created, since a fresh optimizer has none."""
    for group in state.optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            moments = {m: f"optimizer.{m}.{name}" for m in MOMENTS}
            if all(key in tensors for key in moments.values()):
                state.optimizer.state[parameter] = {
                    m: torch.empty_like(tensors[key], device=parameter.device) for m, key in moments.items()
                }
    own = tensors_of(state)
    _copy_all(own, _local_norms(own, tensors), source)


def _local_norms(own: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with the norm of local crops' class tokens as the model has it: none, or one that is new.

    A new one begins as the common norm. So an arm may untie them at its fork, and weights of either kind start either.
    """
    found = {key: tensor for key, tensor in tensors.items() if key in own or ".local_cls_norm." not in key}
    for key in own.keys() - found.keys():
        common = key.replace(".local_cls_norm.", ".backbone.norm.")
        if key.startswith(NETWORKS) and common in tensors:
            found[key] = tensors[common]
    return found


@torch.no_grad()
def _copy_all(own: dict[str, Tensor], tensors: dict[str, Tensor], source: Path | str) -> None:
    """Copy tensors by name; names or shapes that differ are an error that lists them."""
    refuse_other_tensors(own, tensors, str(source))
    for key, tensor in own.items():
        tensor.copy_(tensors[key])


def refuse_other_tensors(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], source: str) -> None:
    """Raises `BadInput` that lists the names and shapes in which the tensors of a source are not one's own."""
    shapes = [(key, [*tensors[key].shape], [*own[key].shape]) for key in sorted(own.keys() & tensors.keys())]
    refuse_differences(
        source,
        missing=own.keys() - tensors.keys(),
        unknown=tensors.keys() - own.keys(),
        misshapen=[f"{key} {theirs} for {ours}" for key, theirs, ours in shapes if theirs != ours],
        wanted="model.name, model.args, dino.head and ibot.head as it was trained with",
    )
