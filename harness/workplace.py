"""A run's folder while it is worked in: held by one process, with one readable log."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

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


@contextmanager
def journal(folder: Path) -> Iterator[None]:
    """Write the log to the terminal, above the progress bars, and to `log.txt`."""
    logger = logging.getLogger("gramlab")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handlers = [logging.StreamHandler(), logging.FileHandler(folder / "log.txt")]
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S"))
        logger.addHandler(handler)
    try:
        with logging_redirect_tqdm(loggers=[logger]):
            yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
