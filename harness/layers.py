"""An experiment file and the files that its `defaults` name, laid over one another in their order, as plain data.

`defaults` is a list: `_self_` stands for the file itself, `model: nano` for model/nano.yaml, whose settings belong
under `model`, and `mine` for mine.yaml. A comment `# @package _global_` puts a file's settings at the top level
instead. Files lie beside the experiment or in the repository's `experiments/`; those that a group's file names lie in
the group's folder, with `/model: nano` in that of `model`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import yaml_file
from common.errors import BadInput, nearest
from common.schema import shown
from harness.sweep_settings import SPACE, by_parameter, outdated

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
OWN = "_self_"
NAMED = re.compile(r"(?!.*\.\.)\w[\w./-]{0,200}")  # never above the experiment's folder
TOP = "/"  # before a group that is not one within the file's own


@dataclass(frozen=True)
class Entry:
    """One line of `defaults`: a file by its group and name; a file without a group has the group ""."""

    group: str
    name: str

    @property
    def words(self) -> str:
        return f"{self.group}/{self.name}.yaml".lstrip("/")


def composed(path: Path, choices: Mapping[str, str | None], *, added: Mapping[str, str]) -> dict[str, Any]:
    """The file's settings over and under those of its defaults.

    Args:
        choices: other names for groups of its defaults, None for a group that is left out.
        added: groups that its defaults lack, laid over all.

    Raises:
        BadInput: a file that is missing or cannot be read, defaults that cannot be meant, a group that is not there.
    """
    used = set[str]()
    parts = [*_parts(path, "", choices, used, (path.resolve(),))]
    if lost := [group for group in choices if group not in used]:
        raise BadInput(f"{path}: {lost[0]} is not among the file's defaults: add `- {lost[0]}: ...` to them")
    for entry in (Entry(group, name) for group, name in added.items()):
        parts += _parts(_found(entry, path, path.parent), entry.group, {}, used, (path.resolve(),))
    found: dict[str, Any] = {}
    for part in parts:
        found = merged(found, part)
    return found


def entries(path: Path) -> list[Entry]:
    """The defaults of a file in their order; the file itself is last where it does not name itself."""
    listed = yaml_file.read(path).get("defaults", [])
    want = f"want `- {OWN}`, `- NAME` or `- GROUP: NAME`"
    if not isinstance(listed, list):
        raise BadInput(f"{path}: defaults={shown(listed)}: want a list; {want} a line")
    found = []
    for one in listed:
        group, name = next(iter(one.items())) if isinstance(one, dict) and len(one) == 1 else (None, one)
        parts = [name] if group is None else [group.removeprefix(TOP) if isinstance(group, str) else group, name]
        if not all(isinstance(part, str) and NAMED.fullmatch(part) for part in parts):
            raise BadInput(f"{path}: defaults: got {shown(one)}: {want}, of files beside the experiment or below")
        found.append(Entry(group or "", str(name).removesuffix(".yaml")))
    own = Entry("", OWN)
    for one in found:
        if found.count(one) > 1 or (one.group and [other.group for other in found].count(one.group) > 1):
            raise BadInput(f"{path}: defaults: {one.group or one.name} stands there twice: want it once")
    return found if own in found else [*found, own]


def groups(folder: Path) -> list[str]:
    """Names of the folders of files that a choice can be made among, beside an experiment and in the repository."""
    found = {path.parent.name for base in (folder, EXPERIMENTS) for path in base.glob("*/*.yaml")}
    return sorted(found)


def merged(base: Mapping[str, Any], over: Mapping[str, Any], at: str = "") -> dict[str, Any]:
    """Nested mappings, one over the other: what both name is the latter's, mappings within are merged.

    at: the key of the section that they are. Some of a sweep's go together in their own way.
    """
    if at == SPACE:
        base, over = by_parameter(flatten(base)), by_parameter(flatten(over))
    found = {key: value for key, value in base.items() if key not in outdated(at, base, over)}
    for key, value in over.items():
        below = found.get(key)
        if isinstance(value, Mapping):
            value = merged(below if isinstance(below, Mapping) else {}, value, f"{at}.{key}".removeprefix("."))
        found[key] = value
    return found


def flatten(nested: Mapping[str, Any], prefix: str = "", *, whole: Collection[str] = ()) -> dict[str, Any]:
    """Nested settings as dotted keys; a key may be dotted already. Mappings of the keys in `whole` stay as they are."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        if isinstance(value, Mapping) and value and f"{prefix}{key}" not in whole:
            flat |= flatten(value, f"{prefix}{key}.", whole=whole)
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _parts(
    path: Path, group: str, choices: Mapping[str, str | None], used: set[str], above: tuple[Path, ...]
) -> Iterator[dict[str, Any]]:
    """The file's defaults and the file itself, each below the section that it belongs to."""
    for entry in entries(path):
        if entry.name == OWN:
            content = {key: value for key, value in yaml_file.read(path).items() if key != "defaults"}
            for part in reversed(_package(path, group)):
                content = {part: content}
            yield content
            continue
        within = "" if entry.group.startswith(TOP) else group
        inner = "/".join(part for part in (within, entry.group.removeprefix(TOP)) if part)
        name = choices.get(inner, entry.name) if entry.group else entry.name
        key = inner if entry.group else f"{inner}/{entry.name}"
        if key in used:
            raise BadInput(f"{path}: defaults: {key} stands in several files: want one choice of it")
        used.add(key)
        if name is None:
            continue
        below = _found(Entry(inner, name), path, above[0].parent)
        if below.resolve() in above:
            chain = " → ".join(one.name for one in (*above, below))
            raise BadInput(f"{path}: defaults lead in a circle: {chain}")
        yield from _parts(below, inner, choices, used, (*above, below.resolve()))


def _package(path: Path, group: str) -> list[str]:
    """The section that a file's settings belong to: that of its group, unless a comment at its top says otherwise."""
    comments = re.match(r"(?:[ \t]*(?:#.*)?\n)*", yaml_file.text(path))
    head = re.search(r"#\s*@package\s+(\S+)", comments[0] if comments else "")
    said = head[1] if head else group.replace("/", ".")
    return [] if said in ("", "_global_") else said.split(".")


def _found(entry: Entry, path: Path, folder: Path) -> Path:
    """The file that `path` names by an entry, in the experiment's folder or else in the repository."""
    places = [base / entry.group for base in (folder, EXPERIMENTS)]
    for place in places:
        if NAMED.fullmatch(entry.name) and (place / f"{entry.name}.yaml").is_file():
            return place / f"{entry.name}.yaml"
    known = sorted({file.stem for place in places for file in place.glob("*.yaml")})
    if not known:
        hint = nearest(entry.group, groups(folder), otherwise=f"known: {', '.join(groups(folder))}")
        raise BadInput(f"{path}: defaults: no folder {entry.group}; {hint}")
    near = nearest(entry.name, known, otherwise="")
    raise BadInput(f"{path}: defaults: no {entry.words}; known: {', '.join(known)}" + (f"; {near}" if near else ""))
