"""Full training state on disk, as safetensors: written whole or not at all, read without executing code."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.disk import whole
from common.errors import BadInput
from evals.backbones.weights import refuse_non_finite
from harness.step import State, frozen_copy

NETWORKS = ("student.", "teacher.")
MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, SafetensorError)


def save_state(state: State, path: Path, *, identity: str) -> None:
    """Write `state` whole to `path`; `identity` is the hash of the settings that it belongs to."""
    tensors = {key: tensor.detach().contiguous() for key, tensor in _tensors(state).items()}
    meta = {"step": str(state.step), "identity": identity, "anchor": json.dumps(state.gram_teacher is not None)}
    with whole(path) as new:
        save_file(tensors, new, metadata=meta)


def load_state(state: State, path: Path, *, identity: str | None) -> None:
    """Fill `state` in place from `path`; a Gram teacher is made like the teacher unless the state has one already.

    Raises `BadInput` when the file is damaged, of other settings, or of other shapes.
    """
    try:
        with safe_open(path, framework="pt") as file:
            meta = _header(file.metadata() or {}, path, identity)
            own = state.gram_teacher or frozen_copy(state.teacher.backbone)
            state.gram_teacher = own if json.loads(meta["anchor"]) else None
            _restore(state, {key: file.get_tensor(key) for key in file.keys()}, path)
    except _DAMAGE as error:
        raise _unreadable(path, error) from error
    state.step = int(meta["step"])


def read_header(path: Path, *, identity: str | None) -> int:
    """The step of a saved state, without its tensors. Raises `BadInput` as `load_state`, shapes left aside."""
    try:
        with safe_open(path, framework="pt") as file:
            return int(_header(file.metadata() or {}, path, identity)["step"])
    except _DAMAGE as error:
        raise _unreadable(path, error) from error


def _header(meta: dict[str, str], path: Path, identity: str | None) -> dict[str, str]:
    if identity is not None and meta["identity"] != identity:
        raise BadInput(
            f"{path} was written under other settings ({meta['identity']}, now {identity}): use another name"
        )
    return meta


def _unreadable(path: Path, error: Exception) -> BadInput:
    if isinstance(error, BadInput):
        return error
    return BadInput(f"{path} cannot be read as a training state ({error}): remove it to start from the one before")


def latest_states(folder: Path) -> list[Path]:
    """Saved states in `folder`, newest first."""
    return sorted(
        folder.glob("step_*.safetensors"), key=lambda path: int(path.stem.removeprefix("step_")), reverse=True
    )


def prune_states(folder: Path, *, keep: int) -> None:
    """Remove all but the newest `keep` states."""
    for old in latest_states(folder)[keep:]:
        old.unlink()


def load_weights(state: State, path: Path) -> None:
    """Start student and teacher from a weights-only file with keys `student.…` and `teacher.…`, strictly by name."""
    if not path.is_file():
        raise BadInput(f"trunk.checkpoint={path}: no such file; want a .safetensors written by harness/export_trunk.py")
    try:
        tensors = {key: tensor.float() for key, tensor in load_file(path).items()}
    except SafetensorError as error:
        raise BadInput(
            f"trunk.checkpoint={path} cannot be read ({error}): want whole safetensors; copy it again"
        ) from error
    own = {key: t for key, t in _tensors(state).items() if key.startswith(NETWORKS)}
    _copy_all(own, tensors, path)
    refuse_non_finite(f"trunk.checkpoint={path}", own)


def export_weights(source: Path, target: Path, *, dtype: torch.dtype) -> None:
    """Copy student and teacher out of a saved state, weights only, rounded to `dtype`."""
    with safe_open(source, framework="pt") as file:
        step = file.metadata()["step"]
        keep = {key: file.get_tensor(key).to(dtype) for key in file.keys() if key.startswith(NETWORKS)}
    refuse_non_finite(f"{source} as {dtype}", keep)
    with whole(target) as new:
        save_file(keep, new, metadata={"step": step})


def _tensors(state: State) -> dict[str, Tensor]:
    """Every tensor of a state by name; optimizer moments are named after their parameters."""
    networks: dict[str, nn.Module] = {"student": state.student, "teacher": state.teacher}
    if state.gram_teacher is not None:
        networks["anchor"] = state.gram_teacher
    tensors = {f"{net}.{key}": value for net, module in networks.items() for key, value in module.state_dict().items()}
    for group in state.optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            for moment, value in state.optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{moment}.{name}"] = value
    return tensors


def _restore(state: State, tensors: dict[str, Tensor], path: Path) -> None:
    """Put every tensor where it belongs; the optimizer's moments are created, since a fresh optimizer has none."""
    for group in state.optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            moments = {m: f"optimizer.{m}.{name}" for m in MOMENTS}
            if all(key in tensors for key in moments.values()):
                state.optimizer.state[parameter] = {
                    m: torch.empty_like(tensors[key], device=parameter.device) for m, key in moments.items()
                }
    _copy_all(_tensors(state), tensors, path)


@torch.no_grad()
def _copy_all(own: dict[str, Tensor], tensors: dict[str, Tensor], path: Path) -> None:
    """Copy tensors by name; names or shapes that differ are an error that lists them."""
    differing = sorted(set(own) ^ set(tensors)) or [k for k in own if own[k].shape != tensors[k].shape]
    if differing:
        raise BadInput(
            f"{path} does not fit the model: {len(differing)} tensors differ, first {', '.join(differing[:3])}; "
            "use the settings that it was written with"
        )
    for key, tensor in own.items():
        tensor.copy_(tensors[key])
