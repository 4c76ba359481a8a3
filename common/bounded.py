"""A cache folder that stays within a size: what was used longest ago goes, never what a running process may use.

Each process that uses a cache keeps a file in its `.users` locked for as long as it lives, and touches each entry that
it uses. An entry that was touched since the oldest of these processes began may be in use; any other is not.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from common.disk import locked, matching
from common.errors import BadInput

log = logging.getLogger("gramlab")
USERS = ".users"
ENTRIES = ("features/*/*", "shards/*", "manifests/*", "scenes-*.npy")  # what is made again where it is missing
_ours: dict[Path, int] = {}  # the open file by which this process, and those that it forks, use a cache


class Entry(NamedTuple):
    """Something in a cache: where, when it was used last, and how large it is."""

    path: Path
    used: float
    size: int


def used(cache: Path, entry: Path) -> None:
    """This process uses an entry from now on; called before it is read, and after it is written."""
    if cache not in _ours:
        # a cache that can only be read is made smaller by nobody
        with suppress(OSError, BadInput), locked(cache / USERS, fcntl.LOCK_SH):
            user = os.open(cache / USERS / f"{os.getpid()}-{secrets.token_hex(4)}", os.O_CREAT | os.O_RDWR)
            fcntl.flock(user, fcntl.LOCK_EX)
            _ours[cache] = user
    with suppress(OSError, BadInput), locked(cache / USERS, fcntl.LOCK_SH):  # while nobody drops anything
        os.utime(entry)


def released(cache: Path) -> None:
    """This process uses a cache no more."""
    if (user := _ours.pop(cache, None)) is not None:
        os.close(user)


def keep_within(cache: Path, gib: float | None, *, setting: str) -> None:
    """Drop what was used longest ago until the cache has so many GiB, and say in one line what went; None keeps all."""
    if gib is None or not cache.is_dir():
        return
    with suppress(OSError, BadInput), locked(cache / USERS, fcntl.LOCK_EX | fcntl.LOCK_NB):  # else another sees to it
        _keep_within(cache, gib, setting)


def _keep_within(cache: Path, gib: float, setting: str) -> None:
    entries = sorted(_entries(cache), key=lambda one: one.used)
    total, dropped, most = sum(one.size for one in entries), list[Entry](), gib * 2**30
    began = _oldest_user(cache)
    for one in entries:
        if total <= most or one.used >= began:
            break
        if _drop(one.path):
            dropped.append(one)
            total -= one.size
    if dropped:
        went = f"dropped {len(dropped):,} that were used longest ago, {size_words(sum(one.size for one in dropped))}"
        log.info("cache %s: %s, to stay within %s=%g", cache, went, setting, gib)
    if total > most:
        log.info("cache %s: more than %s=%g: all %s may be in use", cache, setting, gib, size_words(total))


def _entries(cache: Path) -> Iterator[Entry]:
    for path in (path for pattern in ENTRIES for path in matching(cache, pattern) if not path.name.startswith(".")):
        with suppress(FileNotFoundError):  # another process drops it
            yield Entry(path, path.stat().st_mtime, size(path))


def _oldest_user(cache: Path) -> float:
    """When the first of the running processes began that use the cache; what ended ones left goes."""
    found = float("inf")
    for path in (cache / USERS).glob("*"):
        with suppress(OSError), path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                found = min(found, path.stat().st_mtime)
    return found


def _drop(path: Path) -> bool:
    try:
        if path.is_dir():
            shutil.rmtree(path)
            with suppress(OSError):  # the other kind of features lies there still
                path.parent.rmdir() if path.parent.parent.name == "features" else None
        else:
            path.unlink()
            path.with_suffix(".sha256").unlink(missing_ok=True)
    except OSError:  # no rights, or another process was faster
        return False
    return True


def size(path: Path) -> int:
    """Bytes of a file, or of all files below a folder."""
    files = [path] if path.is_file() else (Path(top, name) for top, _, names in os.walk(path) for name in names)
    total = 0
    for one in files:
        with suppress(FileNotFoundError):  # another process is at work there
            total += one.lstat().st_size
    return total


def size_words(count: float) -> str:
    """Bytes to three digits."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1000 or unit == "GiB":
            return f"{count:.3g} {unit}"
        count /= 1024
    raise AssertionError
