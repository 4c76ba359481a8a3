"""Any vision backbone as one contract, `images -> Features`; exported backbones are written and read here.

An exported folder holds `weights.safetensors` and `backbone.json`. It loads into plain timm:

    card = json.loads(Path(folder, "backbone.json").read_text())
    model = timm.create_model(card["timm_name"], num_classes=0, **card["timm_args"])
    model.load_state_dict(safetensors.torch.load_file(Path(folder, "weights.safetensors")))
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import timm
import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn

from common.errors import BadInput
from evals.backbones import huggingface, official, states
from evals.backbones.final_norm import inputs_of, lengths
from evals.backbones.timm_models import TimmReader, create, create_told
from evals.backbones.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Loaded,
    Triple,
    fill,
    first_line,
    quiet,
    read_tensors,
    triple,
)

CARD, WEIGHTS, FORMAT = "backbone.json", "weights.safetensors", 1


class Features(NamedTuple):
    """`patches`: after the final norm. `pooled`: the class token after that norm; where there is none, the mean patch.

    Where a network's final norm follows its pooling (ConvNeXt), `pooled` is the norm of the mean. `lengths`: the norm
    of each patch before the final norm, which hides differences; of the patch itself where no such norm can be seen.
    """

    pooled: Float[Tensor, "B D"]
    patches: Float[Tensor, "B D h w"]
    lengths: Float[Tensor, "B h w"]


class Backbone(nn.Module):
    """A frozen view of a model: its weights, flags and gradients stay as they are."""

    def __init__(self, found: Loaded, *, name: str) -> None:
        super().__init__()
        self.model = found.model
        self.name = name
        self.mean, self.std, self.extra = found.mean, found.std, dict(found.extra)
        self.reader = found.reader or TimmReader(found.model)

    @property
    def stride(self) -> int:
        """Side of a patch in pixels."""
        return self.reader.stride

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def fingerprint(self) -> str:
        """Hex over weights, buffers, kinds of modules and their settings, read anew: weights may train on."""
        digest = hashlib.sha256(repr((self.mean, self.std, self.reader.settings)).encode())
        for path, module in self.model.named_modules():
            digest.update(f"{path}:{type(module).__name__}".encode())
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Features:
        """Images in [0, 1], not normalised, sides multiples of `stride`; float32 features on the model's device.

        Raises:
            BadInput: a size that the model does not take.
        """
        images = images.to(self.device)
        mean, std = (images.new_tensor(x).view(1, 3, 1, 1) for x in (self.mean, self.std))
        height, width = images.shape[2:]
        with _eval_mode(self.model), inputs_of(self.reader.final) as before:
            try:
                pooled, patches = self.reader((images - mean) / std)
            except (AssertionError, ValueError, RuntimeError, IndexError) as error:
                if not _about_size(error):
                    raise
                raise self._refusal(height, width, first_line(error)) from error
        if tuple(patches.shape[2:]) != (height // self.stride, width // self.stride):
            reason = f"its map is {patches.shape[2]} x {patches.shape[3]} at a stride of {self.stride}"
            raise self._refusal(height, width, reason)
        return Features(pooled.float(), patches.float(), lengths(before, patches))

    def _refusal(self, height: int, width: int, reason: str) -> BadInput:
        return BadInput(
            f"got {height} x {width} images for {self.name}, which refuses them ({reason}): want a size that its "
            "patches and windows fit, or its native one; do change the size or the model"
        )


def wrap(
    model: nn.Module,
    *,
    name: str,
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    extra: Mapping[str, Any] | None = None,
) -> Backbone:
    """See a timm model as a `Backbone`.

    Raises:
        BadInput: the model has no `forward_intermediates`, timm's door to its feature map.
    """
    return _backbone(Loaded(model, mean, std, extra or {}), name)


def load(spec: str, *, device: str | torch.device = "cpu") -> Backbone:
    """A backbone by its address; the global random state stays as it was.

    Args:
        spec: `KIND:REST` with a kind of `ADDRESSES`, a training state of ours (`….safetensors`, which may end in
            `:student`) or an exported folder.

    Raises:
        BadInput: an unknown address, weights that cannot be had, or weights that do not fit to the last key.
    """
    kind, _, rest = spec.partition(":")
    with torch.random.fork_rng(devices=[]):  # models are made on the CPU
        torch.default_generator.manual_seed(0)
        if kind in ADDRESSES:
            found = ADDRESSES[kind](rest)
        elif Path(spec.partition(":")[0]).name in (CARD, WEIGHTS):
            folder = Path(spec).parent
            raise BadInput(f"got {spec}, one file of an export: want the exported folder; do name {folder}")
        elif states.is_state(spec):
            found = states.load(spec)
        else:
            found = _folder(Path(spec))
        return _backbone(found, spec).to(device)


def _backbone(found: Loaded, name: str) -> Backbone:
    if found.reader is None and not hasattr(found.model, "forward_intermediates"):
        raise BadInput(
            f"got {name}, which gives no feature map: want a timm model with forward_intermediates; do pick a ViT, "
            "ConvNeXt or ResNet"
        )
    return Backbone(found, name=name)


# --- timm by name


def _timm(name: str, *, pretrained: bool) -> Loaded:
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}" if close else "timm.list_models() names them all"
        raise BadInput(f"got the model {name}: want one that timm knows; do correct the name ({hint})")
    try:
        with quiet("huggingface_hub"):  # it tells of every try to reach the hub
            model = create(name, {}, pretrained=pretrained)
    except Exception as error:  # whatever the download layer raises: its classes change with every release
        if not pretrained:
            raise
        raise BadInput(
            f"got no published weights for {name} ({first_line(error)}): want them on the Hugging Face hub or in its "
            f"cache; do check the network and the tag, or take random:{name}"
        ) from error
    published = cast(dict[str, Any], cast(Any, model).pretrained_cfg)
    return Loaded(model, triple(published.get("mean"), IMAGENET_MEAN), triple(published.get("std"), IMAGENET_STD))


ADDRESSES: dict[str, Callable[[str], Loaded]] = {
    "timm": lambda name: _timm(name, pretrained=True),
    "random": lambda name: _timm(name, pretrained=False),
    "dinov2": lambda path: official.load(Path(path), "dinov2"),
    "dinov3": lambda path: official.load(Path(path), "dinov3"),
    "hf": huggingface.load,
}


# --- exported folders


def export(
    model: nn.Module,
    folder: Path,
    *,
    timm_name: str,
    timm_args: Mapping[str, Any],
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write a backbone folder whole or not at all; an earlier export at the same place is replaced.

    Args:
        extra: what else to remember (step, configuration hash); plain JSON values.

    Raises:
        BadInput: something that is no exported backbone lies at `folder`.
    """
    if folder.exists() and not (folder / CARD).is_file():
        raise BadInput(f"got {folder}, which holds no exported backbone: want a new folder; do name another place")
    card = {"format": FORMAT, "timm_name": timm_name, "timm_args": dict(timm_args), "mean": mean, "std": std}
    text = json.dumps({**card, "extra": dict(extra or {})}, indent=2)
    partial, retired = (folder.with_name(f".{folder.name}.{word}-{os.getpid()}") for word in ("partial", "retired"))
    partial.mkdir(parents=True)
    try:
        tensors = {name: x.detach().cpu().contiguous().clone() for name, x in model.state_dict().items()}
        save_file(tensors, partial / WEIGHTS, metadata={"format": "pt"})
        (partial / CARD).write_text(text + "\n", encoding="utf-8")
        _put_in_place(partial, folder, retired)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_in_place(new: Path, folder: Path, retired: Path) -> None:
    """`new` becomes `folder`; what lay there is removed only then, and comes back where that fails."""
    if folder.exists():
        folder.rename(retired)
    try:
        new.rename(folder)
    except BaseException:
        if retired.exists():
            retired.rename(folder)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def _folder(folder: Path) -> Loaded:
    missing = [name for name in (CARD, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        kinds = ", ".join(f"{kind}:…" for kind in ADDRESSES)
        raise BadInput(
            f"got {folder} without {' and '.join(missing)}: want an exported backbone folder, a training state or "
            f"{kinds}; do check the path"
        )
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        name, args = str(card["timm_name"]), dict(card["timm_args"])
        mean, std = triple(card["mean"], IMAGENET_MEAN), triple(card["std"], IMAGENET_STD)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"got an unreadable {folder / CARD} ({error}): want what export wrote; do export again"
        ) from error
    if card.get("format") != FORMAT or not timm.is_model(name):
        raise BadInput(
            f"got format {card.get('format')} of model {name} in {folder / CARD}: want format {FORMAT} of a model that "
            "timm knows; do export again with this version"
        )
    model = create_told(name, args, card=folder / CARD)
    wanted = f"the model of its {CARD}; do export it from that very model"
    fill(model, read_tensors(folder / WEIGHTS), source=str(folder / WEIGHTS), wanted=wanted)
    return Loaded(model, mean, std, card.get("extra") or {})


# --- what a backbone does


def _about_size(error: Exception) -> bool:
    """Whether a model complains of the input's size; timm asserts, others let a tensor operation fail."""
    if isinstance(error, BadInput | torch.OutOfMemoryError):
        return False
    words = str(error).lower()
    return isinstance(error, AssertionError) or (("size" in words or "shape" in words) and "allocat" not in words)


@contextmanager
def _eval_mode(model: nn.Module) -> Iterator[None]:
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
