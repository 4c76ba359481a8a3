"""How a Hugging Face model's inputs are normalised: by the card of its image processor, from its folder or the hub."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common.disk import json_object
from common.errors import BadInput, first_line
from evals.backbones.weights import IMAGENET_MEAN, IMAGENET_STD, Triple, statistics

CARD = "preprocessor_config.json"


def inputs_of(name: str) -> tuple[Triple, Triple]:
    """Mean and deviation that inputs in [0, 1] are normalised with: the model's own where its card tells them.

    Raises:
        BadInput: a card that cannot be read, or none in the hub's cache while offline.
    """
    path = _card(name)
    if path is None:
        return IMAGENET_MEAN, IMAGENET_STD
    try:
        card: Mapping[str, Any] = json_object(path.read_bytes())
        if not card.get("do_normalize", True):
            return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        return statistics(card.get("image_mean"), card.get("image_std"))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(
            f"got an unreadable {path} ({first_line(error)}): want JSON with three numbers each for image_mean and "
            "image_std, or none; download or save it again"
        ) from error


def _card(name: str) -> Path | None:
    if Path(name).is_dir():
        path = Path(name, CARD)
        return path if path.is_file() else None
    client = importlib.import_module("huggingface_hub")
    try:
        return Path(client.hf_hub_download(name, CARD))
    except client.errors.LocalEntryNotFoundError as error:  # a subclass of the next
        raise BadInput(
            f"got hf:{name} without its {CARD} in the cache: want it, for the mean and deviation of inputs; do go "
            "online once"
        ) from error
    except client.errors.EntryNotFoundError:
        return None
