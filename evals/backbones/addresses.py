"""Opens a backbone by its address, such as `timm:NAME` or a folder: the table of kinds and of what reads each."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import timm
import torch

from common.errors import BadInput, first_line
from evals.backbones import exported, huggingface, official, states
from evals.backbones.backbone import Backbone
from evals.backbones.exported import CARD, WEIGHTS
from evals.backbones.timm_models import create
from evals.backbones.weights import Loaded, quiet, refuse_non_finite, statistics


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
        return Backbone(found, name=spec).to(device)


def _folder(folder: Path) -> Loaded:
    if missing := exported.missing_files(folder):
        kinds = ", ".join(f"{kind}:…" for kind in ADDRESSES)
        raise BadInput(
            f"got {folder} without {' and '.join(missing)}: want an exported backbone folder, a training state or "
            f"{kinds}; do check the path"
        )
    return exported.load(folder)


def refuse_absent(spec: str) -> None:
    """Raises `BadInput` for an address that names no model of timm, or a file that does not exist; reads nothing."""
    kind, _, rest = spec.partition(":")
    if kind in ("timm", "random"):
        _refuse_unknown(rest)
    elif kind in ("dinov2", "dinov3"):
        path, _, which = rest.rpartition(":")
        if not any(Path(place).exists() for place in (rest, path) if place):
            raise BadInput(
                f"got no file {path or which} for {spec}: want the weights that were published; check the path"
            )


def _refuse_unknown(name: str) -> None:
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(close)}" if close else "timm.list_models() names them all"
        raise BadInput(f"got the model {name}: want one that timm knows; do correct the name ({hint})")


def _timm(name: str, *, pretrained: bool) -> Loaded:
    _refuse_unknown(name)
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
    refuse_non_finite(f"timm:{name}", model.state_dict())
    published = cast(dict[str, Any], cast(Any, model).pretrained_cfg)
    return Loaded(model, *statistics(published.get("mean"), published.get("std")))


ADDRESSES: dict[str, Callable[[str], Loaded]] = {
    "timm": lambda name: _timm(name, pretrained=True),
    "random": lambda name: _timm(name, pretrained=False),
    "dinov2": lambda spec: official.load(spec, "dinov2"),
    "dinov3": lambda spec: official.load(spec, "dinov3"),
    "hf": huggingface.load,
}
