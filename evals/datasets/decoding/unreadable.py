"""Files of a set that cannot be read: which setting leaves their images out, in the words of a refusal."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from common.errors import BadInput
from evals.datasets.labelled_set import LabelledSet

SHOWN = 10  # names in a line


def is_unreadable(error: BadInput) -> bool:
    """Whether a file itself is at fault, and not what settings say of it."""
    return str(error).startswith("got unreadable ")


def or_exclude(error: BadInput, sets: Iterable[LabelledSet]) -> BadInput:
    """The error with the setting that leaves the file's image out, where it is about an unreadable file of these."""
    if not is_unreadable(error):
        return error
    for one in sets:
        for key in (one.key(index) for index in range(len(one))):
            if any(name in str(error) for name in _names(key)):
                return type(error)(f"{error}, or {leave_out(one.name, [key])}")
    return error


def leave_out(name: str, keys: Sequence[str]) -> str:
    """What to write to leave these images out of a set."""
    listed = ", ".join(key if re.fullmatch(r"[\w./-]+", key) else json.dumps(key) for key in keys[:SHOWN])
    rest = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return (
        f"leave {'it' if len(keys) == 1 else 'them'} out by exclude: [{listed}]{rest} in the set's YAML "
        f"(--data {name}=FILE.yaml; evals.sets.NAME.exclude in an experiment)"
    )


def _names(key: str) -> list[str]:
    """How errors name an image's file, and the mask or depth map of its name in a folder beside `images`."""
    place = PurePosixPath(key)
    beside = [f"/{folder}/{'/'.join(place.with_suffix('').parts[1:])}." for folder in ("annotations", "depth")]
    return [f"/{key} (", *(beside if place.parts[0] == "images" else [])]
