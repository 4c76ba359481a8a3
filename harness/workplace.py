"""A folder while it is worked in, an experiment's or a segment's: held by one process, others wait or go elsewhere."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from common.errors import BadInput, found
from common.interrupts import leave_if_asked
from common.unwritable import staying, writing

GLANCES, GLANCE = 3, 0.05  # who only asks whether a folder is held has its lock for less than so many seconds
LOOK = 1.0  # seconds between two looks at what another process holds

T = TypeVar("T")
_own = set[IO[bytes]]()  # the locks of this process

log = logging.getLogger("gramlab")


class Busy(BadInput):
    """Another process is at work in the folder."""


def _let_go() -> None:
    """A process that is forked, as loaders are, would keep the locks of one that was killed for as long as it lives."""
    for file in _own:
        file.close()
    _own.clear()


os.register_at_fork(after_in_child=_let_go)


def _locked(file: IO[bytes]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        time.sleep(GLANCE)
        return False
    return True


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes, and against being removed: it is not made anew by the next write.

    Raises `Busy`, naming the holder, when another one is at work in it; `Unwritable`.
    """
    lock = folder / ".lock"
    with writing(lock):
        folder.mkdir(parents=True, exist_ok=True)
        file = lock.open("a+b", buffering=0)
    with file:
        if not any(_locked(file) for _ in range(GLANCES)):
            raise Busy(f"{in_use(folder)}: want it free; wait, or choose another name=...")
        with writing(lock):
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        _own.add(file)
        try:
            with staying(folder):
                yield
        finally:
            _own.discard(file)


def in_use(folder: Path) -> str:
    """Who is at work in a folder that is held."""
    return f"{folder} is in use by process {(folder / '.lock').read_text().strip()}"


def patiently(act: Callable[[], T], *, name: str) -> T:
    """What `act` returns once nothing that it needs is held by another process; what is waited for is told once.

    Raises `Leaving` where this process is asked to leave meanwhile.
    """
    told = False
    while True:
        try:
            return act()
        except Busy as busy:
            if not told:
                log.info("%s waits: %s", name, found(busy))
            told = True
        leave_if_asked()
        time.sleep(LOOK)
