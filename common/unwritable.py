"""What keeps a file from being written, told in one line: a full disk, a lack of rights, a folder that is gone."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import BadInput, first_line

HIDDEN = ".partial-"  # how the names begin under which `common.disk` writes
_OF_RUST = re.compile(r"\(os error (\d+)\)")  # safetensors: an exception of its own, with the system's number as text
_OF_NUMPY = re.compile(r"\d+ requested and \d+ written")  # an OSError without a number
_REMEDIES = {
    errno.ENOSPC: "make room there",
    errno.EDQUOT: "make room in your quota",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "make that place writable, or name another",
    errno.EACCES: "make that place writable, or name another",
    errno.EPERM: "make that place writable, or name another",
    errno.EMFILE: "raise the limit on open files (ulimit -n)",
    errno.ENFILE: "close programs that hold many files open",
    errno.ENAMETOOLONG: "choose shorter names",
    errno.EIO: "check that disk",
    errno.ENOENT: "put its folder back",
}
_ELSEWHERE = ", or name another cache (runtime.cache=... of a run, else --cache)"
_held: dict[Path, int] = {}  # folders that must stay, and an open descriptor of each


class Unwritable(BadInput, OSError):
    """Something could not be written: says what, why, and what to do."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What keeps `path` from being written, or what is written in its place, becomes `Unwritable`.

    Libraries have errors of their own for it. Errors about other files pass as they are.
    """
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        if not _is_about(error, path):
            raise
        refuse_lost(path)
        raise Unwritable(_words(error, path)) from error


@contextmanager
def in_cache() -> Iterator[None]:
    """What cannot be written inside belongs to a cache, and the error says that this may lie elsewhere."""
    try:
        yield
    except Unwritable as error:
        if _ELSEWHERE in str(error):  # a cache that is filled while another one is
            raise
        raise Unwritable(f"{error}{_ELSEWHERE}") from error


@contextmanager
def staying(folder: Path) -> Iterator[None]:
    """Nothing is written below `folder` any more once it was removed, moved or replaced: half of it would come back."""
    if folder in _held:
        yield
        return
    with writing(folder):
        descriptor = os.open(folder, os.O_RDONLY)
    _held[folder] = descriptor  # open, so that no other folder gets its number
    try:
        yield
    finally:
        del _held[folder]
        os.close(descriptor)


def refuse_lost(path: Path) -> None:
    """Raises `Unwritable` where a folder above `path` had to stay and did not."""
    for folder, descriptor in _held.items():
        if folder not in path.parents:
            continue
        if not folder.exists() or not os.path.samestat(folder.stat(), os.fstat(descriptor)):
            raise Unwritable(
                f"cannot write {path}: {folder} was removed, moved or replaced since this command began; "
                "put it back, or let it begin anew"
            )


def _number(error: Exception) -> int | None:
    """The system's number of an error, where it has one."""
    found = _OF_RUST.search(str(error))
    return int(found[1]) if found else getattr(error, "errno", None)


def _is_about(error: Exception, path: Path) -> bool:
    if _OF_RUST.search(str(error)):
        return True
    if not isinstance(error, OSError):
        return False
    if error.errno is None:
        return _OF_NUMPY.search(str(error)) is not None
    if not isinstance(error.filename, str):  # a failing write has no name
        return True
    named = Path(error.filename)
    return named in (path, *path.parents) or any(part.startswith(HIDDEN) for part in named.parts)


def _words(error: Exception, path: Path) -> str:
    number = _number(error)
    why = os.strerror(number) if number else first_line(error)
    if number in (errno.ENOSPC, None):
        why += f", {_free(path)} free"
    return f"cannot write {path} ({why}): {_REMEDIES.get(number or errno.ENOSPC, 'mend that')}"


def _free(path: Path) -> str:
    """What the disk below `path` has left."""
    there = next(part for part in (path, *path.absolute().parents) if part.exists())
    free = shutil.disk_usage(there).free
    return f"{free / 1e9:.1f} GB" if free >= 1e8 else f"{free / 1e6:.1f} MB"
