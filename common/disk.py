"""The one way to write: a file or folder appears whole and synced or not at all; and how JSON is read back."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from glob import glob
from pathlib import Path
from typing import Any

from common.errors import BadInput, first_line
from common.unwritable import HIDDEN, refuse_lost, writing

DEEPEST = 50  # levels of a JSON file of ours, which need a dozen at most
_RETIRED = ".retired"
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

    Raises:
        Unwritable: a full disk, or whatever else keeps it from being written.
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
    with writing(path):
        refuse_lost(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent)
        hidden, lock = _hidden_beside(path)
        try:
            yield hidden / path.name
        finally:
            _remove(hidden)
            os.close(lock)


def _hidden_beside(path: Path) -> tuple[Path, int]:
    """A new hidden folder and the open descriptor that locks it."""
    while True:
        hidden = path.parent / f"{HIDDEN}{secrets.token_hex(8)}"
        hidden.mkdir()
        try:
            lock = os.open(hidden, os.O_RDONLY)
        except FileNotFoundError:  # swept away before it was locked
            continue
        with suppress(OSError):  # a file system without locks: nobody will judge this folder
            fcntl.flock(lock, fcntl.LOCK_EX)
        if hidden.exists():  # else it was swept away in between
            return hidden, lock
        os.close(lock)


def put(new: Path, path: Path, *, sync: bool = True, unless: Callable[[], bool] = lambda: False) -> None:
    """Let a fragment take its place, one writer after the other; a folder that lay there is removed only then.

    Args:
        unless: asked while nobody else can put anything there; where it is true, what lies there stays.
    """
    for part in (*new.rglob("*"), new):
        _share(part, like=new.parent)
        if sync:
            _sync(part)
    with _alone(path.parent):
        if unless():
            return
        if path.exists() and (new.is_dir() or path.is_dir()):
            _swap(new, path)
        else:
            new.replace(path)
    if sync:
        _sync(path.parent)


def append(path: Path, text: str) -> None:
    """Add to the end of a file, in one write, and wait until it has reached the disk. Raises `Unwritable`."""
    with writing(path):
        refuse_lost(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
        _sync(path)
        _sync(path.parent)


def alone(folder: Path) -> AbstractContextManager[None]:
    """Wait until no other process is inside such a block of its own for this folder, which is made where it is not."""
    return locked(folder, fcntl.LOCK_EX)


@contextmanager
def locked(folder: Path, how: int) -> Iterator[None]:
    """A lock of `flock` on a folder itself, which is made where it is not. Raises `BlockingIOError` with LOCK_NB."""
    with writing(folder):
        refuse_lost(folder / "any")
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, how)
        yield
    finally:
        os.close(lock)


@cache
def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder, which may be tens of gigabytes; once in the life of this one.

    A folder that one of them was about to replace, and had moved away already, comes back.
    """
    for hidden in folder.glob(f"{HIDDEN}*"):
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
    """What is new takes the name of an old folder, or a folder that of a file; the old one comes back where that fails,
    or where this is killed."""
    retired = new.parent / _RETIRED / folder.name
    retired.parent.mkdir()
    folder.rename(retired)
    try:
        new.rename(folder)
    except BaseException:
        retired.rename(folder)
        raise


def remove(path: Path) -> None:
    """Remove a file or a folder at once: what a kill leaves of a folder is hidden, and goes as that of `whole` does."""
    if not path.is_dir():
        path.unlink()
        return
    hidden = path.with_name(f"{HIDDEN}{secrets.token_hex(8)}")
    path.rename(hidden)
    _remove(hidden)  # as another process may that sweeps
    if hidden.exists():
        shutil.rmtree(hidden)  # which says why


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def _share(path: Path, *, like: Path) -> None:
    """Let those read a file whom the user's mask lets: safetensors' writer leaves it to its owner alone.

    One that has another name elsewhere is not ours to change.
    """
    own, mode = path.lstat(), like.stat().st_mode & 0o666
    if stat.S_ISREG(own.st_mode) and own.st_nlink == 1 and own.st_mode & 0o666 != mode:
        with suppress(OSError):  # a file system without rights
            path.chmod(mode)


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


def matching(folder: Path, pattern: str) -> list[Path]:
    """What lies below a folder and is named so, hidden ones too, in order; what goes while this looks is passed over.

    `Path.glob` fails there, up to Python 3.12: a folder that it saw, and whose writer has just renamed it, is missing.
    """
    return [folder / path for path in sorted(glob(pattern, root_dir=folder, recursive=True, include_hidden=True))]  # noqa: PTH207


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, in hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, *, remedy: str) -> dict[str, Any]:
    """A JSON object. Raises `BadInput`, naming the file and the remedy, where it cannot be read or is damaged."""
    try:
        return json_object(path.read_bytes())
    except (OSError, ValueError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
        raise BadInput(f"{path} cannot be read ({said}): want the JSON object that was written; {remedy}") from error


def json_object(text: bytes) -> dict[str, Any]:
    """The object that JSON in UTF-8 holds. Raises ValueError for anything that was not written by `json.dumps` here."""
    try:
        content = json.loads(text.decode("utf-8"), object_pairs_hook=_once)
        deep = not _within(content, DEEPEST)
    except RecursionError:
        content, deep = None, True
    if deep:
        raise ValueError(f"it is nested more than {DEEPEST} deep")
    if not isinstance(content, dict):
        raise ValueError(f"{type(content).__name__} instead of an object")
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"it holds {next(name for name in names if names.count(name) > 1)!r} twice")
    return content


def _within(content: Any, levels: int) -> bool:
    """Whether lists and objects lie no deeper than that inside one another."""
    inside = [content]
    for _ in range(levels + 1):
        lists = (one.values() if isinstance(one, dict) else one for one in inside if isinstance(one, dict | list))
        inside = [x for one in lists for x in one]
    return not inside


def write_json(path: Path, content: Any) -> None:
    """Replace a JSON file whole."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a text file whole."""
    with whole(path) as new:
        new.write_text(text, encoding="utf-8")
