"""Weights from files into models: read without running code, loaded to the last key."""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from common.errors import BadInput, first_line

Triple = tuple[float, float, float]
Tensors = dict[str, Tensor]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)

# What training dumps put around the state dict that is wanted
WRAPPERS = ("teacher", "model", "state_dict")


class Reader(Protocol):
    """How features are taken from a model that is not timm's."""

    stride: int  # side of a patch in pixels

    @property
    def final(self) -> nn.Module | None:
        """The final norm, before which patches are measured; None where it cannot be seen."""
        ...

    @property
    def settings(self) -> str:
        """What shapes features beside weights and kinds of modules, for the fingerprint."""
        ...

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised images [B 3 H W] to pooled [B D] and patches [B D h w]."""
        ...


class Loaded(NamedTuple):
    """What an address leads to; `reader` is None for timm models, which `evals.backbones.backbone` reads itself."""

    model: nn.Module
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD
    extra: Mapping[str, Any] = {}
    reader: Reader | None = None


def triple(values: Any, default: Triple) -> Triple:
    """Three numbers, one a channel; `default` for None. Raises ValueError or TypeError for anything else."""
    if values is None:
        return default
    red, green, blue = (float(x) for x in values)
    return red, green, blue


def read_tensors(path: Path) -> Tensors:
    """The state dict of a `.safetensors` file or of a PyTorch file, on the CPU, unwrapped from a training dump.

    Raises:
        BadInput: no such file, a damaged one, one that would have to run code, or one that holds no state dict.
    """
    if not path.is_file():
        raise BadInput(f"got {path}, where no file lies: want a checkpoint file; do check the path")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise BadInput(
                f"got an unreadable {path} ({error}): want whole safetensors; do export or copy it again"
            ) from error
    return _state_dict(_unpickled(path), path)


def fill(
    model: nn.Module, found: Mapping[str, Tensor], *, source: str, wanted: str, unknown: Iterable[str] = ()
) -> None:
    """Copy tensors into a model, strictly; a buffer that its state dict leaves out may be among them.

    Args:
        source: where the tensors come from, for the message.
        wanted: what would fit and what to do, for the message.
        unknown: keys of the file that have no place in the model, beside those that `found` shows.

    Raises:
        BadInput: names the keys that are missing, unknown, or of another shape.
    """
    own = {**{key: buffer for key, buffer in model.named_buffers() if key in found}, **model.state_dict()}
    both = sorted(own.keys() & found.keys())
    refuse_differences(
        source,
        missing=own.keys() - found.keys(),
        unknown={*(found.keys() - own.keys()), *unknown},
        misshapen=[f"{k} {_shape(found[k])} for {_shape(own[k])}" for k in both if own[k].shape != found[k].shape],
        wanted=wanted,
    )
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(found[key])


def refuse_differences(
    source: str, *, missing: Iterable[str], unknown: Iterable[str], misshapen: Iterable[str], wanted: str
) -> None:
    """Raises `BadInput` that names the keys in which a file differs from its model, if there are any."""
    faults = {"missing": sorted(missing), "unknown": sorted(unknown), "of another shape": sorted(misshapen)}
    if any(faults.values()):
        named = "; ".join(f"{len(keys)} {fault}: {some(keys)}" for fault, keys in faults.items() if keys)
        raise BadInput(f"got {source} with {named}: want {wanted}")


def some(keys: list[str], most: int = 4) -> str:
    """The first few of a list, for a message."""
    return ", ".join(keys[:most]) + (" …" if len(keys) > most else "")


@contextmanager
def quiet(*libraries: str) -> Iterator[None]:
    """Within it these libraries log errors alone: what their warnings tell stands in a message of ours, in one line."""
    levels = {log: log.level for log in map(logging.getLogger, libraries)}
    for log in levels:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in levels.items():
            log.setLevel(level)


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


def _unpickled(path: Path) -> Any:
    """The content of a PyTorch file as far as tensors and plain values go; big files stay on disk until copied."""
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):  # files from before PyTorch 1.6 cannot be mapped
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        if code:
            raise BadInput(
                f"got {path}, which cannot be read without running code from it ({code[1]}): want a plain state dict; "
                "do save one, or safetensors, where you trust the file"
            ) from error
        raise BadInput(
            f"got {path}, which is no checkpoint (it begins with {_beginning(path)!r}): want a PyTorch or safetensors "
            "file; do download it again"
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        raise BadInput(
            f"got an unreadable {path} ({first_line(error)}): want a whole checkpoint file; do download it again"
        ) from error


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _state_dict(content: Any, path: Path) -> Tensors:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    if not isinstance(content, Mapping) or not content:
        raise BadInput(f"got {path}, which holds no state dict: want names with tensors; do name another file")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise BadInput(
            f"got {path} with {some(others)}, no tensors: want a state dict, alone or under {', '.join(WRAPPERS)}; "
            "do save it so"
        )
    return {str(key): value for key, value in content.items()}
