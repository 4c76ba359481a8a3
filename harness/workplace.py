"""A run's folder while it is worked in: held by one process."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.errors import BadInput


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder against other processes. Raises `BadInput`, naming the holder, when one is at work in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise BadInput(
                f"{folder} is in use by process {file.read().strip()}: wait for it or choose another name=..."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
