"""A folder while it is worked in, an experiment's or a segment's: held by one process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from common.errors import BadInput
from common.unwritable import staying, writing

GLANCES, GLANCE = 3, 0.05  # who only asks whether a folder is held has its lock for less than so many seconds


class Busy(BadInput):
    """Another process is at work in the folder."""


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
            holder = lock.read_text().strip()
            raise Busy(f"{folder} is in use by process {holder}: want it free; wait, or choose another name=...")
        with writing(lock):
            file.truncate(0)
            file.write(str(os.getpid()).encode())
        with staying(folder):
            yield
