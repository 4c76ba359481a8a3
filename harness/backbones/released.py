"""Released weights that a student starts from: by whose format they are read, what they hold, whether they fit it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from common.errors import BadInput
from common.on_meta import on_meta
from evals.backbones import exported, official
from evals.backbones.addresses import ADDRESSES
from evals.backbones.digest import digest
from evals.backbones.huggingface_inputs import inputs_of
from evals.backbones.official import Converted
from evals.backbones.timm_models import create, vit_args
from evals.backbones.weights import IMAGENET_MEAN, IMAGENET_STD, Tensors, Triple, refuse_differences, some
from harness.backbones import huggingface_files
from harness.recipe import DINOV3, Model

# Parts of published models behind what trains here, by the beginning of their names
BEHIND = ("head.", "head_dist.", "attn_pool.", "fc_norm.")
# Of a timm model's arguments, those that say how it ends, which `vit_args` settles
ENDING = ("global_pool", "fc_norm", "use_fc_norm", "dynamic_img_size")
WANTED = "the architecture of model.name and model.args; do leave both out to take that of the weights"
# What a model's attributes may differ in without computing anything else once its weights are filled
IDLE = ("training", "init_values", "num_classes", "head_init_scale", "weight_init_mode", "fix_init")


class Released(NamedTuple):
    """Weights by timm's names, and the timm model that they are of.

    mask_token: [1, D]; None where the file has none.
    mean, std: what the channels of images in 0…1 were normalised with.
    """

    name: str
    args: dict[str, Any]
    tensors: Tensors
    mask_token: Tensor | None = None
    mean: Triple = IMAGENET_MEAN
    std: Triple = IMAGENET_STD


class About(NamedTuple):
    """What is remembered of an address: the architecture, a hash of the weights, and lines that tell of both."""

    name: str
    args: dict[str, Any]
    content: str
    lines: tuple[str, ...]


# --- what the settings ask for


def settled(model: Model) -> Model:
    """The settings with the architecture named: as they name it, else that of the released weights, else DINOv3's."""
    if model.name is not None:
        return model
    if model.start_from is None:
        return replace(model, name=DINOV3)
    about = _about(model.start_from)
    return replace(model, name=about.name, args={**about.args, **model.args})


def science(model: Model) -> dict[str, Any]:
    """The settings as they enter an identity: the architecture by name, released weights by their content."""
    own = settled(model)
    plain = asdict(own)
    del plain["start_from"]
    if own.start_from is None:
        return plain
    _refuse_unfit(own.start_from, str(own.name), json.dumps(own.args), _facts(own.start_from))
    return {**plain, "start_from": _about(own.start_from).content}


def told(model: Model) -> list[str]:
    """Lines for plan and log on the weights that a student starts from; [] where they are random."""
    return [] if model.start_from is None else [*_about(model.start_from).lines]


@lru_cache(maxsize=64)
def _refuse_unfit(spec: str, name: str, args: str, facts: tuple[Any, ...]) -> None:
    """Raises `BadInput` that names the keys in which released weights differ from what they shall fill."""
    asked, released = json.loads(args), read(spec)
    with on_meta():
        backbone = create(name, vit_args(name, asked))
        theirs = create(released.name, vit_args(released.name, released.args))
    _fitting(backbone, released, spec)
    ours, its = _attributes(backbone), _attributes(theirs)
    if differing := [f"{key} {its[key]} for {ours[key]}" for key in ours if key in its and its[key] != ours[key]]:
        raise BadInput(f"model.start_from={spec}: got {some(differing)}: want {WANTED}")


# --- into networks


@torch.no_grad()
def fill(networks: Iterable[tuple[nn.Module, Tensor]], spec: str) -> None:
    """Copy released weights into backbones, to the last tensor, and their mask token beside it where there is one.

    Raises:
        BadInput: names the keys that are missing, unknown or of another shape.
    """
    released = read(spec)
    for backbone, mask_token in networks:
        tensors = _fitting(backbone, released, spec)
        for key, tensor in backbone.state_dict().items():
            tensor.copy_(tensors[key])
        if released.mask_token is not None:
            mask_token.copy_(released.mask_token.view_as(mask_token))


def _fitting(backbone: nn.Module, released: Released, spec: str) -> Tensors:
    """The tensors that a backbone has a place for, by its names. Raises `BadInput` as `fill`."""
    own, tensors = backbone.state_dict(), dict[str, Tensor]()
    behind = "norm.weight" in own and "norm.weight" not in released.tensors  # the final norm, of some models of timm
    for key, tensor in released.tensors.items():
        name = key.replace("fc_norm.", "norm.") if behind and key.startswith("fc_norm.") else key
        if name in own or not name.startswith(BEHIND):
            tensors[name] = tensor
    both = sorted(own.keys() & tensors.keys())
    refuse_differences(
        f"model.start_from={spec}",
        missing=own.keys() - tensors.keys(),
        unknown=tensors.keys() - own.keys(),
        misshapen=[f"{k} {_shape(tensors[k])} for {_shape(own[k])}" for k in both if own[k].shape != tensors[k].shape],
        wanted=WANTED,
    )
    return tensors


def _attributes(model: nn.Module) -> dict[str, Any]:
    """All that shapes what a model computes beside its weights: kinds of modules, heads, sizes and the like."""
    return {
        f"{path}.{name}".removeprefix("."): value
        for path, module in model.named_modules()
        for name, value in {"kind": type(module).__name__, **vars(module)}.items()
        if isinstance(value, bool | int | float | str | tuple) and name not in IDLE and not name.startswith("_")
    }


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"


# --- from where


def read(spec: str) -> Released:
    """What lies at an address. Raises `BadInput` that begins with the setting's name."""
    kind, _, rest = spec.partition(":")
    try:
        released = READERS[kind](rest) if kind in READERS else _exported(Path(spec))
    except BadInput as error:
        raise BadInput(f"model.start_from={spec}: {error}") from error
    return released._replace(tensors={key: tensor.float() for key, tensor in released.tensors.items()})


def _timm(name: str) -> Released:
    loaded = ADDRESSES["timm"](name)
    return Released(name, {}, loaded.model.state_dict(), mean=loaded.mean, std=loaded.std)


def _official(spec: str, family: str) -> Released:
    return _converted(official.read(spec, family), *official.inputs_of(spec))


def _hugging_face(name: str) -> Released:
    return _converted(huggingface_files.read(name), *inputs_of(str(huggingface_files.folder_of(name))))


def _converted(file: Converted, mean: Triple, std: Triple) -> Released:
    """Periods of RoPE, which DINOv3's files hold rounded to bfloat16, stay timm's, which are not."""
    tensors = {key: tensor for key, tensor in file.tensors.items() if key != "rope.periods"}
    strange = dict.fromkeys(file.unknown, torch.empty(0))  # is refused by its name
    return Released(file.timm_name, _own(file.timm_args), {**tensors, **strange}, file.mask_token, mean, std)


def _exported(folder: Path) -> Released:
    if missing := exported.missing_files(folder):
        kinds = ", ".join(f"{kind}:…" for kind in READERS)
        raise BadInput(f"{folder} without {' and '.join(missing)}: want an exported backbone's folder, or {kinds}")
    name, args = exported.architecture(folder)
    loaded = exported.load(folder)
    return Released(name, _own(args), loaded.model.state_dict(), mean=loaded.mean, std=loaded.std)


def _own(args: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in args.items() if key not in ENDING}


READERS: Mapping[str, Callable[[str], Released]] = {
    "timm": _timm,
    "dinov2": lambda spec: _official(spec, "dinov2"),
    "dinov3": lambda spec: _official(spec, "dinov3"),
    "hf": _hugging_face,
}


# --- what is remembered


def _about(spec: str) -> About:
    """Read once in the life of this process, and again when a file has changed."""
    return _read_once(spec, _facts(spec))


@lru_cache(maxsize=64)
def _read_once(spec: str, facts: tuple[Any, ...]) -> About:
    released = read(spec)
    tensors = dict(released.tensors)
    if released.mask_token is not None:
        tensors["mask_token"] = released.mask_token
    return About(released.name, released.args, digest({}, tensors)[:16], tuple(_lines(spec, released)))


def _facts(spec: str) -> tuple[Any, ...]:
    """Names, sizes and times of the files at an address; () for one on a hub."""
    kind, _, rest = spec.partition(":")
    place = Path(rest if kind in READERS else spec)
    for path in (place, Path(str(place).rpartition(":")[0] or ".")):  # an official dump may end in `:teacher`
        files = sorted(path.iterdir()) if path.is_dir() and str(path) != "." else [path] if path.is_file() else []
        if files:
            return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files)
    return ()


def _lines(spec: str, released: Released) -> list[str]:
    """What a file is, what of it is not taken, and what it lacks."""
    count = sum(tensor.numel() for tensor in released.tensors.values())
    lines = [f"starts from {spec}: {released.name}, {count / 1e6:.1f} M weights; heads are random"]
    if behind := sorted(key for key in released.tensors if key.startswith(BEHIND) and not key.startswith("fc_norm.")):
        lines.append(f"starts from {spec}: {some(behind)} left aside, as they come after what trains here")
    if released.mask_token is None:
        lines.append(f"starts from {spec}: it holds no mask token; that begins at zero")
    if (released.mean, released.std) != (IMAGENET_MEAN, IMAGENET_STD):
        lines.append(
            f"starts from {spec}: its inputs had mean {released.mean} and deviation {released.std}; here they have "
            "ImageNet's"
        )
    return lines
