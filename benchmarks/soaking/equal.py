"""What a run leaves for good, file by file, and in what two such folders differ: all but times, places and machines."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from safetensors import safe_open

from common.unwritable import HIDDEN
from evals.backbones import digest
from evals.backbones.state_folder import FILES, HEADER

# keys whose values are times, places or of this machine, wherever they stand
PASSING = {
    "seconds", "images_per_second", "peak_memory_gib", "environment", "folder", "cache", "began", "ended", "launcher",
}  # fmt: skip
# what is drawn, told or locked: that it is there counts, what it says holds times
DRAWN = {".pdf", ".html"}
UNCOUNTED = {
    "log.txt", "launch.json", "plan.txt", ".lock", "study.journal", "study.journal.lock", "study.beats", "tensorboard",
}  # fmt: skip


def _stays(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _stays(value) for key, value in content.items() if key not in PASSING}
    return [_stays(value) for value in content] if isinstance(content, list) else content


def _tensors(path: Path) -> dict[str, Any]:
    """Each tensor's type, shape and bits, and the header's words."""
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        found: dict[str, Any] = {name: (str(x.dtype), x.shape, x.tobytes()) for name, x in arrays.items()}
        return {**found, "__header__": file.metadata()}


def _arrays(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return {name: (str(file[name].dtype), file[name].shape, file[name].tobytes()) for name in file.files}


def _lines(path: Path) -> dict[str, Any]:
    """Of results each by itself: processes that are at work side by side write theirs as they come."""
    lines = path.read_text().splitlines()
    rows = [_stays(json.loads(line)) for line in (sorted(lines) if path.name == "results.jsonl" else lines)]
    return {f"line {number}": row for number, row in enumerate(rows, 1)}


def _table(path: Path) -> dict[str, Any]:
    rows = csv.DictReader(path.read_text().splitlines())
    timed = ("hours", "began", "ended", "seconds")
    kept = [{key: value for key, value in row.items() if not key.startswith(timed)} for row in rows]
    kept = [row for row in kept if row.get("at") != "seconds"]  # compared at equal times
    return {f"row {number}": row for number, row in enumerate(kept, 1)}


def _json(path: Path) -> Any:
    """Of the header of a state in a folder the names of its files, which are compared themselves: safetensors puts the
    words in theirs into another order each time, so that their digests are never the same."""
    content = _stays(json.loads(path.read_text()))
    if path.name == HEADER and FILES in content:
        content = {**content, FILES: sorted(content[FILES]), digest.KEY: ""}
    return content


READ: dict[str, Callable[[Path], Any]] = {
    ".safetensors": _tensors,
    ".npz": _arrays,
    ".jsonl": _lines,
    ".json": _json,
    ".csv": _table,
    ".yaml": lambda path: _stays(yaml.safe_load(path.read_text())),
}


def left(folder: Path) -> dict[str, Any]:
    """What lies below a folder of runs and counts, by its path there; links as what they lead to."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if {*name.parts} & UNCOUNTED or any(part.startswith(HIDDEN) for part in name.parts):
            continue
        if path.is_symlink():
            found[str(name)] = str(path.readlink())
        elif path.is_file():
            read = READ.get(path.suffix, lambda path: hashlib.sha256(path.read_bytes()).hexdigest())
            found[str(name)] = "drawn" if path.suffix in DRAWN else read(path)
    return found


def differences(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """In what two folders differ, a line each: a file that one lacks, or the keys of a file that are not alike."""
    told = []
    for name in sorted({*mine, *theirs}):
        one, other = mine.get(name), theirs.get(name)
        if one is None or other is None:
            told.append(f"{name}: {'missing' if one is None else 'too much'}")
        elif one != other:
            told.append(f"{name}: {_apart(one, other)}")
    return told


def _apart(one: Any, other: Any) -> str:
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return f"{one!s:.60} instead of {other!s:.60}"
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    first = keys[0]
    shown = (
        "" if isinstance(one.get(first), tuple) else f" ({one.get(first)!s:.200} instead of {other.get(first)!s:.200})"
    )
    return f"{', '.join(map(str, keys[:4]))}{' …' if len(keys) > 4 else ''}{shown}"


def leftovers(folder: Path) -> int:
    """How many hidden places that killed processes left still lie there."""
    return sum(1 for path in folder.rglob(f"{HIDDEN}*"))
