"""The one way to write: a file or folder appears whole and synced or not at all; and how tables are read back."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from common.errors import BadInput

_HIDDEN, _RETIRED = ".partial-", ".retired"
# what systems say that cannot sync this; any other error means that it did not reach the disk
_UNABLE = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EACCES, errno.EBADF}


@contextmanager
def whole(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """A place of the same name to write a file or make a folder at, which then becomes `path`.

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
    """`whole` without its end: `put` lets it take its place, and without that it is removed.

    It lies in a hidden folder beside `path`, which is locked for as long as its writer lives: so two writers never
    meet, and what a killed one left can be told, whatever machine or container it ran in.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent)
    while True:
        hidden = path.parent / f"{_HIDDEN}{secrets.token_hex(8)}"
        hidden.mkdir()
        lock = os.open(hidden, os.O_RDONLY)
        with suppress(OSError):  # a file system without locks: nobody will judge this folder
            fcntl.flock(lock, fcntl.LOCK_EX)
        if hidden.exists():  # else it was swept away in between
            break
        os.close(lock)
    try:
        yield hidden / path.name
    finally:
        _remove(hidden)
        os.close(lock)


def put(new: Path, path: Path, *, sync: bool = True, unless: Callable[[], bool] = lambda: False) -> None:
    """Let a fragment take its place, one writer after the other; a folder that lay there is removed only then.

    Args:
        unless: asked while nobody else can put anything there; where it is true, what lies there stays.
    """
    if sync:
        for part in (*new.rglob("*"), new):
            _sync(part)
    with _alone(path.parent):
        if unless():
            return
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

    A folder that one of them was about to replace, and had moved away already, comes back.
    """
    for hidden in folder.glob(f"{_HIDDEN}*"):
        try:
            lock = os.open(hidden, os.O_RDONLY)
        except OSError:  # its writer has just finished
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for retired in hidden.glob(f"{_RETIRED}/*"):
                if not (folder / retired.name).exists():
                    retired.rename(folder / retired.name)
            _remove(hidden)
        except OSError:  # its writer lives, or there are no locks to tell
            pass
        finally:
            os.close(lock)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else puts anything into this folder meanwhile, where the system has locks."""
    lock = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _swap(new: Path, folder: Path) -> None:
    """The new folder takes the name of the old one, which comes back where that fails, or where this is killed."""
    retired = new.parent / _RETIRED / folder.name
    retired.parent.mkdir()
    folder.rename(retired)
    try:
        new.rename(folder)
    except BaseException:
        retired.rename(folder)
        raise


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
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
