"""Files that appear whole or not at all, and whether they still are what was written."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
