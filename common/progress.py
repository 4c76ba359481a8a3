"""Progress bars and lines of a log: how far a long computation is, for a terminal and for a file."""

from __future__ import annotations

import io
import logging
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

SILENCE = 30.0  # seconds between two lines of the log

log = logging.getLogger("gramlab")


class Bar(tqdm):
    """tqdm's bar, with rate and time left; where stderr is no terminal, a line of the log each half minute instead.

    Takes tqdm's arguments, and vanishes when it ends.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._logs, self._told = not sys.stderr.isatty(), time.monotonic()
        if self._logs:
            # miniters 1 keeps tqdm's monitor thread away, which would log while another thread does and wait for ever
            options |= {"mininterval": SILENCE / 10, "miniters": 1, "file": io.StringIO()}
            options |= {"bar_format": "{desc}: {n_fmt} of {total_fmt}, {remaining} left, {rate_fmt}{postfix}"}
        super().__init__(*args, leave=False, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Show the state, which tqdm asks for when it is time; nothing is told at the beginning and at the end."""
        if not self._logs:
            return super().display(msg, pos)
        now = time.monotonic()
        under_way = 0 < self.n < (self.total or math.inf)
        if under_way and msg is None and now - self._told >= SILENCE:
            self._told = now
            log.info(str(self))
        return True


class _File(logging.Handler):
    """Lines at the end of a file; one that finds no room is left out, for stderr has it too and nobody reads it back.

    logging's own handler prints a traceback then, and fails once more when it closes.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Add one line."""
        with suppress(OSError), self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(self.format(record) + "\n")


@contextmanager
def telling(file: Path | None = None) -> Iterator[None]:
    """What the project logs goes to stderr, above the progress bars; with a file also to its end, and with the time."""
    handlers = [logging.StreamHandler(), *([_File(file)] if file else [])]
    level, propagate = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S") if file else None)
        log.addHandler(handler)
    try:
        with logging_redirect_tqdm([log]):
            yield
    finally:
        log.setLevel(level)
        log.propagate = propagate
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
