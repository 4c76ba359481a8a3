"""Backbones from our own training states, by what their files hold and without any code of `harness`.

`RUN/<arm>-s<seed>/states/step_NNNNNN.safetensors` holds student and EMA teacher, as a file or as a folder that several
processes wrote; `identity.json` beside `states/` holds the settings that say which timm model they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import timm
from safetensors import SafetensorError

from common.disk import json_object
from common.errors import BadInput, found
from common.steps import arm_of, files_by_step, step_of
from evals.backbones import state_folder, state_header
from evals.backbones.digest import refuse_changed, refuse_other_step, tell_of_no_digest
from evals.backbones.state_header import ENTRIES, Header
from evals.backbones.timm_models import create, create_told, vit_args
from evals.backbones.weights import NETWORKS, Loaded, Tensors, fill, open_safetensors, refuse_non_finite

_ADDRESS = re.compile(r"(?P<path>.+\.safetensors)(?::(?P<network>\w+))?")


def is_state(spec: str) -> bool:
    """Whether an address names a training state: a .safetensors file, with `:teacher` or `:student` if wished."""
    return _ADDRESS.fullmatch(spec) is not None


def load(spec: str) -> Loaded:
    """The backbone of a training state: of the EMA teacher, unless the address ends in `:student`.

    It equals what training exports after the same step, with the same entries in `extra`.

    Raises:
        BadInput: no such file or network, no settings beside it, or weights that do not fit them.
    """
    match = _ADDRESS.fullmatch(spec)
    assert match is not None, spec
    path, network = Path(match["path"]), match["network"] or NETWORKS[0]
    if network not in NETWORKS:
        raise BadInput(f"got {spec}: want {' or '.join(NETWORKS)} after the last colon; do correct it")
    if not path.exists():
        kept = [other.name for other in files_by_step(path.parent, ".safetensors").values()]  # the newest two
        near = f"do take one of {', '.join(kept)}" if kept else "do check the path"
        raise BadInput(f"got {path}, where no file lies: want a training state; {near}")
    settings = _settings(path)
    header, held, digested = _read(path)
    prefix = f"{network}.backbone."
    tensors = {name.removeprefix(prefix): tensor for name, tensor in held.items() if name.startswith(prefix)}
    refuse_non_finite(f"{path}:{network}", tensors)
    name, args = str(settings["model"]["name"]), settings["model"]["args"]
    model = create_told(name, args, card=_card(path), make=lambda name, args: create(name, vit_args(name, args)))
    fill(model, tensors, source=f"{path}:{network}", wanted="the model of its identity.json; do restore that file")
    if not digested:
        tell_of_no_digest(path)
    seed = settings.get("seed")
    extra = {"step": header.step, "seed": seed, "identity": header.identity, "network": network}
    return Loaded(model, extra=extra | arm_of(path.parent.parent.name, seed))


def _card(path: Path) -> Path:
    return path.parent.parent / "identity.json"


def _settings(path: Path) -> dict[str, Any]:
    card = _card(path)
    if not card.is_file():
        raise BadInput(
            f"got {path} without {card}: want a state where training left it, in RUN/<arm>-s<seed>/states/; do name it "
            "there, or an exported folder"
        )
    try:
        settings = json_object(card.read_bytes())
        name, _ = str(settings["model"]["name"]), dict(settings["model"]["args"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"got an unreadable {card} ({error}): want the settings of a run; do restore it") from error
    if not timm.is_model(name):
        raise BadInput(
            f"got model {name} in {card}: want a model that timm knows; do install the version it was made with"
        )
    return settings


class Contents(NamedTuple):
    """All that a state holds; `digested`: its digest confirms it, which those from before states had one lack."""

    header: Header
    tensors: Tensors
    digested: bool


def read(path: Path) -> Contents:
    """A training state as it was written.

    Raises:
        SafetensorError, OSError, BadInput: a file that is damaged, has changed since it was written, has a header that
            training does not write, or bears the name of another step. A caller says what to do.
    """
    if path.is_dir():
        (said, tensors), digested = state_folder.read(path), True
    else:
        said, tensors = open_safetensors(path)
        digested = refuse_changed(said, tensors, source="content", before=ENTRIES)
    return Contents(header_of(path, said, tensors), tensors, digested)


def checked(path: Path) -> Header:
    """The header of a training state that is what was written; of a folder no tensor is read. Raises as `read`."""
    return header_of(path, *state_folder.checked(path)) if path.is_dir() else read(path).header


def header_of(path: Path, said: Mapping[str, Any], tensors: Iterable[str]) -> Header:
    """What a file says beside tensors of these names. Raises `BadInput` as `read`."""
    header = state_header.parsed(said, tensors)
    refuse_other_step(step_of(path.stem), header.step, source=path.name)
    return header


def _read(path: Path) -> Contents:
    try:
        return read(path)
    except (SafetensorError, OSError, BadInput) as error:
        raise BadInput(
            f"got {path}, which is no whole training state ({found(error)}): want what training saved; do name "
            "another step"
        ) from error
