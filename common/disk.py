"""Files that appear whole or not at all, and whether they still are what was written."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from common.errors import BadInput


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A path of the same folder and ending to write to; behind the block it takes the place of `path` at once.

    An exception leaves what was at `path` as it is, and nothing else behind; so does a second writer, of whom the last
    to finish counts. Only a killed process leaves its hidden fragment.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fragment = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield fragment
        fragment.replace(path)
    finally:
        fragment.unlink(missing_ok=True)


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; a last line that a crash cut short is left out."""
    if not path.exists():
        return []
    rows = []
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def read_json(path: Path, *, remedy: str) -> dict[str, Any]:
    """A JSON object. Raises `BadInput`, naming the file and the remedy, when it is empty, damaged or no object."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise BadInput(f"{path} cannot be read ({error}): want the JSON object that was written; {remedy}") from error
    if not isinstance(content, dict):
        raise BadInput(f"{path} holds a {type(content).__name__}: want the JSON object that was written; {remedy}")
    return content


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file whole."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole: a crash, or a loss of power, leaves the old one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
