"""Any timm model as one contract, `images -> Features`; exported backbones are written and read here.

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

import timm
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from evals.errors import BadInput

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CARD, WEIGHTS, FORMAT = "backbone.json", "weights.safetensors", 1

Triple = tuple[float, float, float]


class Features(NamedTuple):
    """`pooled`: CLS after the final norm where there is one, else the mean patch. `patches`: after the final norm."""

    pooled: Float[Tensor, "B D"]
    patches: Float[Tensor, "B D h w"]


class Backbone(nn.Module):
    """A frozen view of a timm model: its weights, flags and gradients stay as they are."""

    def __init__(self, model: nn.Module, *, name: str, mean: Triple, std: Triple, extra: Mapping[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.name = name
        self.mean = mean
        self.std = std
        self.extra = dict(extra)
        self.stride = _stride(model)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def fingerprint(self) -> str:
        """Hex over weights, buffers and every plain attribute of the modules, read anew: weights may train on."""
        digest = hashlib.sha256(repr((self.mean, self.std)).encode())
        for path, module in self.model.named_modules():
            digest.update(f"{path}:{type(module).__name__}:{_plain_attributes(module)}".encode())
        for name, tensor in (*self.model.named_parameters(), *self.model.named_buffers()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    @torch.no_grad()
    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Features:
        """Images in [0, 1], not normalised, sides multiples of `stride`; float32 features on the model's device."""
        images = images.to(self.device)
        mean, std = (images.new_tensor(x).view(1, 3, 1, 1) for x in (self.mean, self.std))
        with _eval_mode(self.model):
            last, (patches,) = self._intermediates((images - mean) / std)
            patches = _token_norm(self.model, patches.movedim(1, -1)).movedim(-1, 1)
            if getattr(self.model, "cls_token", None) is None:
                pooled = patches.mean((2, 3))
            else:
                pooled = _token_norm(self.model, last[:, 0])
        return Features(pooled.float(), patches.float())

    def _intermediates(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        try:
            return cast(Any, self.model).forward_intermediates(images, indices=1, norm=True, output_fmt="NCHW")
        except AssertionError as error:  # how timm says that a model takes no such input
            raise BadInput(
                f"got {images.shape[2]} x {images.shape[3]} images for {self.name}, which refuses them ({error}): "
                "want a size that its patches and windows fit, or its native one; do change the size or the model"
            ) from error


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
    if not hasattr(model, "forward_intermediates"):
        raise BadInput(
            f"got {name}, which gives no feature map: want a timm model with forward_intermediates; do pick a ViT, "
            "ConvNeXt or ResNet"
        )
    return Backbone(model, name=name, mean=mean, std=std, extra=extra or {})


def load(spec: str, *, device: str | torch.device = "cpu") -> Backbone:
    """A backbone by its address; the global random state stays as it was.

    Args:
        spec: `timm:NAME` for published weights, `random:NAME` for a fixed random start, else an exported folder.

    Raises:
        BadInput: unknown name, weights that cannot be had, or a folder whose weights do not fit to the last key.
    """
    kind, _, name = spec.partition(":")
    with torch.random.fork_rng(devices=[]):  # models are made on the CPU
        torch.default_generator.manual_seed(0)
        if kind in ("timm", "random"):
            backbone = _load_timm(name, spec=spec, pretrained=kind == "timm")
        else:
            backbone = _load_folder(Path(spec))
    return backbone.to(device)


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
        if folder.exists():
            folder.rename(retired)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(retired, ignore_errors=True)


def _load_timm(name: str, *, spec: str, pretrained: bool) -> Backbone:
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}" if close else "timm.list_models() names them all"
        raise BadInput(f"got {spec}: want a model that timm knows; do correct the name ({hint})")
    try:
        model = create(name, {}, pretrained=pretrained)
    except Exception as error:  # whatever the download layer raises: its classes change with every release
        if not pretrained:
            raise
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(
            f"got no published weights for {name} ({reason[:200]}): want them on the Hugging Face hub or in its cache; "
            f"do check the network and the tag, or take random:{name}"
        ) from error
    published = cast(dict[str, Any], cast(Any, model).pretrained_cfg)
    mean, std = (_triple(published.get(key), default) for key, default in _STATISTICS.items())
    return wrap(model, name=spec, mean=mean, std=std)


def _load_folder(folder: Path) -> Backbone:
    missing = [name for name in (CARD, WEIGHTS) if not (folder / name).is_file()]
    if missing:
        raise BadInput(
            f"got {folder} without {' and '.join(missing)}: want an exported backbone folder, timm:NAME or "
            "random:NAME; do check the path"
        )
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        name, args = str(card["timm_name"]), dict(card["timm_args"])
        mean, std = (_triple(card[key], default) for key, default in _STATISTICS.items())
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"got an unreadable {folder / CARD} ({error}): want what export wrote; do export again"
        ) from error
    if card.get("format") != FORMAT or not timm.is_model(name):
        raise BadInput(
            f"got format {card.get('format')} of model {name} in {folder / CARD}: want format {FORMAT} of a model that "
            "timm knows; do export again with this version"
        )
    model = create(name, args)
    _fill(model, folder / WEIGHTS)
    return wrap(model, name=str(folder), mean=mean, std=std, extra=card.get("extra"))


def create(name: str, args: Mapping[str, Any], *, pretrained: bool = False) -> nn.Module:
    """A timm model without classifier that takes other input sizes than its own, where timm offers that."""
    for freedom in ({"dynamic_img_size": True}, {"strict_img_size": False}):
        try:
            return timm.create_model(name, pretrained=pretrained, **{"num_classes": 0, **freedom, **args})
        except TypeError as error:
            if next(iter(freedom)) not in str(error):
                raise
    return timm.create_model(name, pretrained=pretrained, **{"num_classes": 0, **args})


def _fill(model: nn.Module, path: Path) -> None:
    try:
        found = load_file(path)
    except SafetensorError as error:
        raise BadInput(
            f"got an unreadable {path} ({error}): want whole safetensors; do export or copy it again"
        ) from error
    wanted = model.state_dict()
    faults = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unknown": sorted(found.keys() - wanted.keys()),
        "of another shape": sorted(k for k in wanted.keys() & found.keys() if wanted[k].shape != found[k].shape),
    }
    if any(faults.values()):
        named = "; ".join(f"{len(keys)} {fault}: {_some(keys)}" for fault, keys in faults.items() if keys)
        raise BadInput(f"got {path} with {named}: want the model of its {CARD}; do export it from that very model")
    model.load_state_dict(found, strict=True)


def _some(keys: list[str], most: int = 4) -> str:
    return ", ".join(keys[:most]) + (" …" if len(keys) > most else "")


_STATISTICS: dict[str, Triple] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}


def _triple(values: Any, default: Triple) -> Triple:
    if values is None:
        return default
    red, green, blue = (float(x) for x in values)
    return red, green, blue


def _stride(model: nn.Module) -> int:
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if patch is not None and hasattr(model, "blocks"):
        return int(patch[0]) if isinstance(patch, tuple | list) else int(patch)
    return int(cast(Any, model).feature_info[-1]["reduction"])


def _token_norm(model: nn.Module, tokens: Tensor) -> Tensor:
    # Mean-pooled ViTs keep their final norm behind the pooling, under another name
    final, behind = getattr(model, "norm", None), getattr(model, "fc_norm", None)
    return behind(tokens) if isinstance(final, nn.Identity) and isinstance(behind, nn.Module) else tokens


def _plain_attributes(module: nn.Module) -> list[tuple[str, Any]]:
    plain = (bool, int, float, str, tuple, type(None))
    hidden = {"training"}
    return sorted((k, repr(v)) for k, v in vars(module).items() if k not in hidden and isinstance(v, plain))


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
