"""The one way to write: a file or folder appears whole and synced or not at all; and how tables are read back."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from common.errors import BadInput

# A fragment lies beside what it will become as `.partial-<host>-<process>-<life>.<number>-<name>`: two writers of one
# thing never meet, and what a killed one left can be told. Processes of different lives may have one number, as where a
# container starts again.
_PREFIX, _LIFE, _NUMBERS = f".partial-{socket.gethostname()}-", secrets.token_hex(4), count()
_WRITER = re.compile(r"(\d+)-([0-9a-f]{8})\.")
# what systems say that cannot sync this; any other error means that it did not reach the disk
_UNABLE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EBADF}


@contextmanager
def whole(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """A place in the same folder, of the same ending, to write a file or make a folder at, which then becomes `path`.

    It does so behind the block, at once and after all of it has reached the disk, so that neither a killed process nor
    a loss of power leaves half of it. An exception leaves what was at `path`, and nothing else; of two writers the last
    to finish counts. What a killed process leaves goes when another first writes into that folder.

    Args:
        sync: wait for the disk; False for one of many thousands, whose writer waits once, for all of them.
    """
    with fragment(path) as new:
        yield new
        put(new, path, sync=sync)


@contextmanager
def fragment(path: Path) -> Iterator[Path]:
    """`whole` without its end: `put` lets it take its place, and without that it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    new = path.with_name(f"{_PREFIX}{os.getpid()}-{_LIFE}.{next(_NUMBERS)}-{path.name}")
    try:
        yield new
    finally:
        _remove(new)


def put(new: Path, path: Path, *, sync: bool = True) -> None:
    """Let a fragment take its place; a folder that lay there is removed only then, and comes back where that fails."""
    if sync:
        for part in (*new.rglob("*"), new):
            _sync(part)
    if new.is_dir() and path.exists():
        _swap(new, path)
    else:
        new.replace(path)
    if sync:
        _sync(path.parent)


def append(path: Path, text: str) -> None:
    """Add to the end of a file, in one write, and wait until it has reached the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)
    _sync(path)
    _sync(path.parent)


@cache
def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder, which may be tens of gigabytes; once in the life of this one.

    Only those of this host are judged: a number of a process says nothing about another that shares the folder.
    """
    for left in folder.glob(f"{_PREFIX}*"):
        if writer := _WRITER.match(left.name.removeprefix(_PREFIX)):
            process, life = int(writer[1]), writer[2]
            if not psutil.pid_exists(process) or (process == os.getpid() and life != _LIFE):
                _remove(left)


def _swap(new: Path, folder: Path) -> None:
    """The folders change names. One that is killed half-way leaves the old one hidden: it is never swept away."""
    retired = new.with_name(new.name.replace(".partial", ".retired", 1))
    folder.rename(retired)
    try:
        new.rename(folder)
    except BaseException:
        retired.rename(folder)
        raise
    retired.rename(new)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk, where the system can."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file, none where there is no file; what is no row, as a last line cut short, is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        with suppress(json.JSONDecodeError):
            rows.append(json.loads(line))
    return [row for row in rows if isinstance(row, dict)]


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
    """Replace a text file whole."""
    with whole(path) as new:
        new.write_text(text, encoding="utf-8")
