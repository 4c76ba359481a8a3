"""Weights from files into models: read without running code, loaded to the last key."""

from __future__ import annotations

import logging
import pickle
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from common.errors import BadInput, NonFiniteWeights, first_line

LAYERS = 1000  # more than any vision network has; a file that says 10⁹ of them would be built for ever
Triple = tuple[float, float, float]
Tensors = dict[str, Tensor]

IMAGENET_MEAN: Triple = (0.485, 0.456, 0.406)
IMAGENET_STD: Triple = (0.229, 0.224, 0.225)

# The networks of self-distillation, the one that is usually evaluated first: an average of the other
NETWORKS = ("teacher", "student")
# What training dumps put around the state dict that is wanted
WRAPPERS = (NETWORKS[0], "model", "state_dict")


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


def statistics(mean: Any, std: Any) -> tuple[Triple, Triple]:
    """Mean and deviation of the channels of images in 0…1, as a card tells them; ImageNet's for None.

    Raises:
        ValueError: anything but three numbers each, means from 0 to 1, deviations above 0 and up to 1.
    """
    means, deviations = _triple("mean", mean, IMAGENET_MEAN), _triple("std", std, IMAGENET_STD)
    if not all(0 <= x <= 1 for x in means):  # 123.7 is meant for pixels to 255
        raise ValueError(f"mean is {mean}: want numbers from 0 to 1, as inputs are")
    if not all(0 < x <= 1 for x in deviations):
        raise ValueError(f"std is {std}: want numbers above 0 and up to 1, as inputs lie in 0…1")
    return means, deviations


def _triple(name: str, values: Any, default: Triple) -> Triple:
    if values is None:
        return default
    if not isinstance(values, list | tuple) or len(values) != 3 or not all(type(x) in (int, float) for x in values):
        raise ValueError(f"{name} is {first_line(repr(values), most=80)}: want three numbers, one a channel")
    red, green, blue = map(float, values)
    return red, green, blue


def read_tensors(path: Path, *, network: str | None = None) -> Tensors:
    """The state dict of a `.safetensors` file or of a PyTorch file, on the CPU, unwrapped from a training dump.

    Args:
        network: of `NETWORKS`: what lies under this word in the dump, with the word before every name.

    Raises:
        BadInput: no such file, a damaged one, one that would have to run code, or one that holds no state dict.
    """
    if not path.is_file():
        raise BadInput(f"got {path}, where no file lies: want a checkpoint file; do check the path")
    if path.suffix == ".safetensors":
        return read_safetensors(path)[1]
    return _state_dict(_unpickled(path), path, network)


def open_safetensors(path: Path) -> tuple[dict[str, str], Tensors]:
    """As `read_safetensors`, with the errors of the system and of the library."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no dict


def read_safetensors(path: Path) -> tuple[dict[str, str], Tensors]:
    """What the header of a `.safetensors` file says beside its tensors, and these, on the CPU. Raises BadInput."""
    try:
        return open_safetensors(path)
    except (SafetensorError, OSError) as error:
        raise BadInput(
            f"got an unreadable {path} ({first_line(error)}): want whole safetensors; do export or copy it again"
        ) from error


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


def refuse_non_finite(source: str, tensors: Mapping[str, Tensor]) -> None:
    """Raises `NonFiniteWeights` that names the tensors with NaN or infinity, if there are any."""
    unsound = sorted(key for key, tensor in tensors.items() if not tensor.isfinite().all())
    if unsound:
        raise NonFiniteWeights(
            f"got {source} with {some(unsound)} not finite: want sound weights; download them again, or "
            "take an earlier step"
        )


def refuse_endless(source: str, settings: Mapping[str, Any]) -> None:
    """Raises `BadInput` where a file's settings ask for more than `LAYERS` blocks."""
    for key in ("depth", "depths", "layers", "num_hidden_layers"):
        value = settings.get(key)
        blocks = [x for x in (value if isinstance(value, list | tuple) else [value]) if isinstance(x, int)]
        if sum(blocks) > LAYERS:
            raise BadInput(
                f"got {key} of {first_line(repr(value), most=80)} in {source}: want {LAYERS} blocks at most; do check "
                "where the file comes from"
            )


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
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # what it says of TorchScript is refused
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
            "file; download it again"
        ) from error
    except (RuntimeError, ValueError, EOFError, OSError, KeyError) as error:
        raise BadInput(
            f"got an unreadable {path} ({first_line(error)}): want a whole checkpoint file; download it again"
        ) from error


def _beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(16)


def _state_dict(content: Any, path: Path, network: str | None) -> Tensors:
    wrappers, prefix = (network or WRAPPERS[0], *WRAPPERS[1:]), ""
    while isinstance(content, Mapping):
        key = next((key for key in wrappers if isinstance(content.get(key), Mapping)), None)
        if key is None:
            break
        content, prefix = content[key], f"{key}." if key == network else prefix
    if not isinstance(content, Mapping) or not content:
        raise BadInput(f"got {path}, which holds no state dict: want names with tensors; do name another file")
    others = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if others:
        inside = [f" or name {path}:{word}" for word in NETWORKS if isinstance(content.get(word), Mapping)]
        raise BadInput(
            f"got {path} with {some(others)}, no tensors: want a state dict, alone or under {', '.join(wrappers)}; "
            f"do save it so{','.join(inside)}"
        )
    return {f"{prefix}{key}": value for key, value in content.items()}
