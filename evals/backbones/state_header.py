"""What a training state says of itself beside its tensors: written as text, and refused where it is something else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from common.disk import json_object
from common.errors import BadInput

ENTRIES = ("step", "identity", "anchor")  # every header has them, beside its digest
_STEP = re.compile("0|[1-9][0-9]{0,17}")  # as many digits as a file's name bears
_TRUTH = {"true": True, "false": False}


class Header(NamedTuple):
    """What is written of a training state beside its tensors.

    identity: the hash of the settings that it belongs to; anchor: whether it holds a separate Gram teacher.
    values: what was measured on the way, by step; ring: the steps whose measured networks it holds.
    """

    step: int
    identity: str
    anchor: bool
    values: Mapping[int, float]
    ring: tuple[int, ...]

    def written(self) -> dict[str, str]:
        """The entries of a file, of which `parsed` makes the same again."""
        said = {"step": str(self.step), "identity": self.identity, "anchor": json.dumps(self.anchor)}
        if self.values:
            said["seen"] = json.dumps({"values": [*self.values.items()], "ring": self.ring})
        return said


def parsed(said: Mapping[str, Any], tensors: Iterable[str]) -> Header:
    """The header of a state from what its file says, where every entry is what training writes.

    A digest does not vouch for that: whoever writes a file can give it one.

    Args:
        said: what a file holds beside its tensors, other entries among it.
        tensors: the names of its tensors.

    Raises:
        BadInput: an entry that is missing or of another kind, or that the tensors belie.
    """
    if missing := [entry for entry in ENTRIES if entry not in said]:
        raise BadInput(f"got no {missing[0]} in its header")
    for entry in (*ENTRIES, "seen"):
        if not isinstance(said.get(entry, ""), str):
            raise BadInput(f"got {entry} {said[entry]!r} in its header: want text")
    step, identity, anchor = (said[entry] for entry in ENTRIES)
    if not _STEP.fullmatch(step):
        raise BadInput(f"got step {step!r} in its header: want a number of up to 18 digits")
    if not identity.isprintable():
        raise BadInput(f"got identity {identity!r} in its header: want what can be printed")
    if anchor not in _TRUTH:
        raise BadInput(f"got anchor {anchor!r} in its header: want true or false")
    header = Header(int(step), identity, _TRUTH[anchor], *_seen(said.get("seen")))
    _refuse_belied(header, tensors)
    return header


def _seen(text: str | None) -> tuple[dict[int, float], tuple[int, ...]]:
    """Measured values and the steps of the ring, from their entry in a header; nothing where there is none."""
    if text is None:
        return {}, ()
    try:
        seen = json_object(text.encode())
        values = {step: value for step, value in seen["values"] if _is_step(step) and isinstance(value, float)}
        ring = tuple(step for step in seen["ring"] if _is_step(step) and step in values)
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(f"got a header whose seen is no record of measurements ({error})") from error
    if len(values) < len(seen["values"]) or len({*ring}) < len(seen["ring"]):
        raise BadInput("got a header whose seen has other things than steps and what was measured there")
    return values, ring


def _is_step(value: Any) -> bool:
    return type(value) is int and 0 <= value < 10**18


def _refuse_belied(header: Header, tensors: Iterable[str]) -> None:
    """Raises `BadInput` where other networks lie in a file than its header tells."""
    parts = [name.split(".") for name in tensors]
    if header.anchor != any(part[0] == "anchor" for part in parts):
        has = "tensors" if not header.anchor else "no tensor"
        raise BadInput(f"got anchor {json.dumps(header.anchor)} in its header, and {has} of a Gram teacher")
    told, held = {str(step) for step in header.ring}, {part[1] for part in parts if part[0] == "ring" and part[1:]}
    if other := sorted(told ^ held):
        raise BadInput(f"got a ring of measured networks in its header that is not the one of its tensors: {other[0]}")
