"""One YAML file as plain data; what could mean two things, or would never end, is refused in one line that names it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import yaml

from common.errors import BadInput

LARGEST = 2**18  # bytes; the largest file of the project has some thousand
DEPTH = 40  # mappings and lists within one another
VALUES = 20_000  # with aliases written out
NULLS = ("", "~", "null", "Null", "NULL")
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
INT = r"[-+]?(?:0|[1-9][0-9_]{0,400}|0x[0-9a-fA-F]{1,400})"
FLOAT = r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.[0-9]+(?:[eE][-+]?[0-9]+)?)"


class _Loader(yaml.SafeLoader):
    """YAML 1.1, but 1e-4 is a number, while 010 (eight?), 1:30 (ninety?) and dates are the text that is written."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, regex) for tag, regex in resolvers if tag.rpartition(":")[2] in ("bool", "merge", "null")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


for tag, pattern in (("float", FLOAT + r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"), ("int", INT)):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"^(?:{pattern})$"), list("-+0123456789."))


def read(path: Path) -> dict[Any, Any]:
    """The mapping that a file holds; {} for an empty one.

    Raises:
        BadInput: no file that can be read, too large, no UTF-8, no YAML, nested too deeply, a key that comes twice, an
            alias that leads into itself or that multiplies, a tag, a value that is `???`, no mapping.
    """
    content = text(path)
    try:
        _check(content, path)
        found = yaml.load(content, Loader=_Loader)
    except yaml.YAMLError as error:
        raise BadInput(f"{path}: {_told(error)}") from error
    if found is not None and not isinstance(found, dict):
        raise BadInput(f"{path}: without settings: want a mapping at its top level, `key: value` lines")
    return found or {}


def text(path: Path) -> str:
    """A file of settings as text. Raises `BadInput` for one that is none."""
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be read ({reason}): want a YAML file") from error
    if len(content) > LARGEST:
        raise BadInput(f"{path}: more than {LARGEST} bytes: want a YAML file of settings")
    try:
        found = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        kind = "UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else f"a byte {content[error.start]:#04x}"
        raise BadInput(f"{path}: line {line}: {kind} is no UTF-8: want a text file; save it as UTF-8") from error
    if odd := CONTROL.search(found):
        line = found.count("\n", 0, odd.start()) + 1
        raise BadInput(f"{path}: line {line}: control character {ord(odd[0]):#04x}: want a text file; remove it")
    return found


@dataclass
class _Open:
    """A mapping or list that is being read: its keys with their lines, its anchor, and how many values came before."""

    mapping: bool
    anchor: str | None
    before: int
    keys: dict[str, int] = field(default_factory=dict)
    wants_key: bool = True


def _check(text: str, path: Path) -> None:
    """Event by event, before anything is built."""
    inside: list[_Open] = []
    sizes: dict[str, int] = {}  # of what an anchor names, once it is complete
    count = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            _refuse(path, event, "a second document begins: want one in a file")
        if isinstance(event, yaml.CollectionEndEvent):
            done = inside.pop()
            if done.anchor:
                sizes[done.anchor] = count - done.before
        if not isinstance(event, yaml.NodeEvent):
            continue
        _refuse_odd(path, event)
        if inside and inside[-1].mapping:
            _keep_key(path, event, inside[-1])
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in sizes:
                _refuse(path, event, f"*{event.anchor} leads into itself, or to no anchor before it: write it out")
            count += sizes[event.anchor]
        elif event.anchor and isinstance(event, yaml.ScalarEvent):
            sizes[event.anchor] = 1
        count += 1
        if isinstance(event, yaml.CollectionStartEvent):
            inside.append(_Open(isinstance(event, yaml.MappingStartEvent), event.anchor, count))
        if len(inside) > DEPTH or count > VALUES:
            much = f"nested more than {DEPTH} deep" if len(inside) > DEPTH else f"more than {VALUES} values"
            _refuse(path, event, f"{much}, aliases written out: want settings")


def _refuse_odd(path: Path, event: Any) -> None:
    """A value that is no plain one."""
    if (tag := getattr(event, "tag", None)) and tag != "!":
        _refuse(path, event, f"tag {tag.replace('tag:yaml.org,2002:', '!!')}: want plain values; leave it out")
    if not isinstance(event, yaml.ScalarEvent):
        return
    if odd := CONTROL.search(event.value) or re.search(r"[\ud800-\udfff]", event.value):
        _refuse(path, event, f"character {ord(odd[0]):#06x}, which no text holds: leave it out")
    if event.value == "???" and event.style is None:
        _refuse(path, event, "??? stands for a value that is missing: want one; give it, or leave the key out")


def _keep_key(path: Path, event: Any, mapping: _Open) -> None:
    """Of two equal keys YAML would take the last in silence."""
    mapping.wants_key, is_key = not mapping.wants_key, mapping.wants_key
    if not is_key:
        return
    if not isinstance(event, yaml.ScalarEvent) or (event.style is None and event.value in NULLS) or "\n" in event.value:
        _refuse(path, event, "a key that is no name: want `name: value`")
    if event.value in mapping.keys:
        first = mapping.keys[event.value]
        _refuse(path, event, f"found duplicate key {event.value!r}, first in line {first}: want it once")
    mapping.keys[event.value] = event.start_mark.line + 1


def _refuse(path: Path, event: Any, what: str) -> NoReturn:
    raise BadInput(f"{path}: line {event.start_mark.line + 1}: {what}")


def _told(error: yaml.YAMLError) -> str:
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return f"no YAML ({' '.join(str(error).split())})"
    tab = "a tab; indent by blanks" if "'\\t'" in problem else problem
    return f"line {mark.line + 1}: {tab}"
