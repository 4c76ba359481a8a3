"""Exported backbones: a folder that holds a timm model's weights and a card, written whole and read strictly.

It loads into plain timm:

    card = json.loads(Path(folder, "backbone.json").read_text())
    model = timm.create_model(card["timm_name"], num_classes=0, **card["timm_args"])
    model.load_state_dict(safetensors.torch.load_file(Path(folder, "weights.safetensors")))
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from safetensors.torch import save_file
from torch import nn

from common.disk import read_json, whole
from common.errors import BadInput, first_line, found
from common.steps import arm_of, step_of
from common.unchanged import until_changed
from evals.backbones.digest import KEY, digest, refuse_changed, refuse_other_step, tell_of_no_digest
from evals.backbones.timm_models import create_told
from evals.backbones.weights import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Loaded,
    Tensors,
    Triple,
    fill,
    read_safetensors,
    refuse_non_finite,
    statistics,
)

CARD, WEIGHTS, FORMAT = "backbone.json", "weights.safetensors", 1
ENTRIES = ("format", "timm_name", "timm_args", "mean", "std", "extra")
_HEADER = {"format": "pt"}  # what other tools expect in the header of the weights


def export(
    model: nn.Module,
    folder: Path,
    *,
    timm_name: str,
    timm_args: Mapping[str, Any],
    mean: Triple = IMAGENET_MEAN,
    std: Triple = IMAGENET_STD,
    extra: Mapping[str, Any] | None = None,
    keep_results: bool = False,
) -> None:
    """Write a backbone folder whole or not at all; an earlier export at the same place is replaced.

    Args:
        extra: what else to remember (step, configuration hash); plain JSON values.
        keep_results: keep what else lies in the earlier export, since it is of the same weights.

    Raises:
        BadInput: something that is no exported backbone lies at `folder`.
    """
    if folder.exists() and not ((folder / CARD).is_file() or (folder / WEIGHTS).is_file()):
        raise BadInput(f"got {folder}, which holds no exported backbone: want a new folder; do name another place")
    card: dict[str, Any] = dict(
        zip(ENTRIES, (FORMAT, timm_name, dict(timm_args), mean, std, dict(extra or {})), strict=True)
    )
    tensors = {name: x.detach().cpu().contiguous().clone() for name, x in model.state_dict().items()}
    card[KEY] = digest({**card, "header": _HEADER}, tensors)
    with whole(folder) as new:
        if keep_results and folder.exists():
            shutil.copytree(folder, new, ignore=shutil.ignore_patterns(CARD, WEIGHTS, ".*"))
        new.mkdir(exist_ok=True)
        save_file(tensors, new / WEIGHTS, metadata=_HEADER)
        (new / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")


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
    header, tensors = read_safetensors(folder / WEIGHTS)
    refuse_non_finite(str(folder / WEIGHTS), tensors)
    fill(model, tensors, source=str(folder / WEIGHTS), wanted=wanted)
    if not _bears_digest(folder, card, header, tensors):
        tell_of_no_digest(folder)
    extra = card["extra"] | arm_of(folder.parent.name, card["extra"].get("seed"))
    return Loaded(model, *statistics(card["mean"], card["std"]), extra)


def architecture(folder: Path) -> tuple[str, dict[str, Any]]:
    """The timm model of an exported folder and what it is made with. Raises `BadInput` as `load`."""
    card = _card(folder / CARD)
    return card["timm_name"], card["timm_args"]


def told(folder: Path) -> dict[str, Any]:
    """What an export was told to remember; nothing where its card cannot be read."""
    try:
        return _card(folder / CARD)["extra"]
    except BadInput:
        return {}


@until_changed(CARD, WEIGHTS)
def fault(folder: Path) -> str | None:
    """What is wrong with an exported folder, from its card to the last bit of its weights; None where it is whole."""
    if missing := missing_files(folder):
        return f"{folder} without {' and '.join(missing)}"
    try:
        card = _card(folder / CARD)
        _bears_digest(folder, card, *read_safetensors(folder / WEIGHTS))
    except BadInput as error:
        return found(error)
    return None


def _bears_digest(folder: Path, card: dict[str, Any], header: dict[str, str], tensors: Tensors) -> bool:
    """Whether an export has a digest. Raises BadInput where it differs, or where its name bears another step."""
    said = card if KEY not in card else {**card, "header": header}
    held = refuse_changed(said, tensors, source=f"{folder} with content", before=ENTRIES)
    refuse_other_step(step_of(folder.name), card["extra"].get("step"), source=str(folder))
    return held


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
    if card.get("format") != FORMAT or not timm.is_model(card["timm_name"]):
        raise BadInput(
            f"got format {card.get('format')} of model {card['timm_name']} in {path}: want format {FORMAT} of a model "
            "that timm knows; do export again with this version"
        )
    return card
