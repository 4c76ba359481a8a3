"""Protocols from their files: those of this folder or one of yours, checked against the settings of their method."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from common import yaml_file
from common.errors import BadInput, nearest
from common.schema import filled
from evals.protocols.protocol import Protocol

FOLDER = Path(__file__).parent


P = TypeVar("P", bound=Protocol)


def names() -> tuple[str, ...]:
    """Every protocol that ships."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load(name: str | Path, kind: type[P], **changes: Any) -> P:
    """The settings of a protocol that ships, by name, or of a file, with some of them changed.

    Raises:
        BadInput: no such protocol, another method than `kind`'s, or settings that do not fit, all of them at once.
    """
    content, place = read(name), place_of(name)
    if content.get("method") != kind.method:
        raise BadInput(f"got method {content.get('method')!r} in {place}: want {kind.method}; do name another protocol")
    given = {key: value for key, value in content.items() if key != "method"} | changes
    found = filled(kind, given, where=str(name))
    if place.parent != FOLDER and found.name in names() and not _ships(found, changes):
        raise BadInput(f"got {place} with the name {found.name} of a protocol that ships, but other settings: want a "
                       "name of its own; do change `name`")  # fmt: skip
    return found


def read(name: str | Path) -> Mapping[str, Any]:
    """The content of a protocol's file, not yet checked against the settings of its method."""
    path = place_of(name)
    if path.parent != FOLDER and not path.is_file():
        raise BadInput(f"got protocol {name}, and no such file: want a .yaml file, or the name of a protocol")
    if not path.is_file():
        hint = nearest(str(name), names(), otherwise=f"known: {', '.join(names())}")
        raise BadInput(f"got protocol {name}: want a name or a .yaml file; {hint}")
    return _parsed(path, path.stat().st_mtime_ns)


def title(name: str) -> str:
    """The first line of a protocol's header: what it is, in a phrase."""
    first = place_of(name).read_text(encoding="utf-8").partition("\n")[0]
    return first.lstrip("# ").rstrip(".")


def place_of(name: str | Path) -> Path:
    """Where a protocol's file lies: a path that ends in .yaml is taken as it is."""
    return Path(name) if str(name).endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"


@cache
def _parsed(path: Path, _changed: int) -> Mapping[str, Any]:
    try:
        content = yaml_file.read(path)
    except BadInput as error:
        raise BadInput(f"got unreadable protocol {error}; do mend it") from error
    if not content:
        raise BadInput(f"got protocol {path} without settings: want `key: value` lines; do start from one that ships")
    return content


def _ships(found: Protocol, changes: Mapping[str, Any]) -> bool:
    """Whether the protocol that ships under this name has the same method and, with these changes, settings."""
    if read(found.name).get("method") != found.method:
        return False
    return found.hash() == load(found.name, type(found), **changes).hash()
