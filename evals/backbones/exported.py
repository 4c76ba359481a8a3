"""Exported backbones: a folder that holds a timm model's weights and a card, written whole and read strictly.

It loads into plain timm:

    card = json.loads(Path(folder, "backbone.json").read_text())
    model = timm.create_model(card["timm_name"], num_classes=0, **card["timm_args"])
    model.load_state_dict(safetensors.torch.load_file(Path(folder, "weights.safetensors")))
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file
from torch import nn

from common.disk import read_json, whole
from common.errors import BadInput, first_line
from evals.backbones.timm_models import create_told
from evals.backbones.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Loaded,
    Triple,
    fill,
    read_tensors,
    refuse_non_finite,
    statistics,
)

CARD, WEIGHTS, FORMAT = "backbone.json", "weights.safetensors", 1


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
    tensors = {name: x.detach().cpu().contiguous().clone() for name, x in model.state_dict().items()}
    with whole(folder) as new:
        new.mkdir()
        save_file(tensors, new / WEIGHTS, metadata={"format": "pt"})
        (new / CARD).write_text(text + "\n", encoding="utf-8")


def missing_files(folder: Path) -> list[str]:
    """What a folder lacks to be an exported backbone."""
    return [name for name in (CARD, WEIGHTS) if not (folder / name).is_file()]


def load(folder: Path) -> Loaded:
    """The model of an exported folder that lacks no file.

    Raises:
        BadInput: a card that cannot be read or is of another format, or weights that do not fit to the last key.
    """
    card = _card(folder / CARD)
    name, args = card["timm_name"], card["timm_args"]
    model = create_told(name, args, card=folder / CARD)
    wanted = f"the model of its {CARD}; do export it from that very model"
    tensors = read_tensors(folder / WEIGHTS)
    refuse_non_finite(str(folder / WEIGHTS), tensors)
    fill(model, tensors, source=str(folder / WEIGHTS), wanted=wanted)
    return Loaded(model, *statistics(card["mean"], card["std"]), card["extra"])


def _card(path: Path) -> dict[str, Any]:
    """A card whose entries are what export writes. Raises BadInput."""
    try:
        card = {"extra": {}, **read_json(path, remedy="export again")}
        statistics(card["mean"], card["std"])
        kinds = {"timm_name": str, "timm_args": dict, "mean": list, "std": list, "extra": dict}
        if wrong := [key for key, kind in kinds.items() if not isinstance(card[key], kind)]:
            raise ValueError(f"{wrong[0]} is {first_line(repr(card[wrong[0]]), most=80)}")
    except (ValueError, KeyError, OSError, RecursionError) as error:
        raise BadInput(
            f"got an unreadable {path} ({first_line(error)}): want what export wrote; do export again"
        ) from error
    if card["format"] != FORMAT or not timm.is_model(card["timm_name"]):
        raise BadInput(
            f"got format {card['format']} of model {card['timm_name']} in {path}: want format {FORMAT} of a model that "
            "timm knows; do export again with this version"
        )
    return card
