"""Progress bars and lines of a log: how far a long computation is, for a terminal and for a file."""

from __future__ import annotations

import io
import logging
import math
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, Protocol, TextIO

from tqdm import tqdm

SILENCE = 30.0  # seconds between two lines of the log
LINE = "{desc}: {n_fmt} of {total_fmt}, {remaining} left, {rate_fmt}{postfix}"

log = logging.getLogger("gramlab")


class Foot(Protocol):
    """What stands at the foot of the terminal in place of bars; see `common.display`."""

    def tick(self) -> None:
        """Draw it anew where it is time for that."""

    def above(self, line: str) -> None:
        """Write a line above it."""


_foot: Foot | None = None
_under_way = list["Bar"]()  # the bars that the foot tells of, in the order in which they began


class Bar(tqdm):
    """tqdm's bar, with rate and time left; where stderr is no terminal, a line of the log each half minute instead.

    Takes tqdm's arguments, and vanishes when it ends. Under a display it draws nothing: that tells of it.

    Args:
        of: the job whose steps it counts, for a display that has a line for each job.
        lines: False where the log tells of it otherwise.
    """

    def __init__(self, *args: Any, of: str | None = None, lines: bool = True, **options: Any) -> None:
        self.of, self._shown, self._followed = of, _foot is not None, False
        self._logs, self._told = not self._shown and not is_redrawn(sys.stderr), time.monotonic()
        if self._shown or self._logs:
            # miniters 1 keeps tqdm's monitor thread away, which would log while another thread does and wait for ever
            options |= {"miniters": 1, "file": io.StringIO(), "bar_format": LINE}
        if self._logs:
            options |= {"mininterval": SILENCE / 10, "disable": not lines}
        super().__init__(*args, leave=False, **options)
        if self._shown:
            _under_way.append(self)

    def follow(self, n: int) -> None:
        """Be at `n`, as another process says; its first steps start the clock, since it began and evaluated before."""
        if self._followed or self.disable or n == self.n:
            self.update(n - self.n)
        else:
            self._followed = True
            self.initial = self.n = self.last_print_n = n
            self.start_t = self.last_print_t = time.time()

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Show the state, which tqdm asks for when it is time; nothing is told at the beginning and at the end."""
        if self._shown:
            tick()
            return True
        if not self._logs:
            return super().display(msg, pos)
        now = time.monotonic()
        under_way = 0 < self.n < (self.total or math.inf)
        if under_way and msg is None and now - self._told >= SILENCE:
            self._told = now
            log.info(str(self))
        return True

    def close(self) -> None:
        """End it."""
        super().close()
        _under_way[:] = [bar for bar in _under_way if bar is not self]  # tqdm's are equal where their lines are


def is_redrawn(stream: TextIO) -> bool:
    """Whether what a stream shows can be drawn anew in its place: it is a terminal, and no dumb one."""
    return stream.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown")


def under_way() -> list[Bar]:
    """The bars that a display tells of."""
    return [*_under_way]


def tick() -> None:
    """Let a display be drawn anew where it is time for that; for loops that wait."""
    if _foot is not None:
        _foot.tick()


@contextmanager
def standing(foot: Foot) -> Iterator[None]:
    """Inside, bars and the log leave the foot of the terminal to this one."""
    global _foot
    before, _foot = _foot, foot
    try:
        yield
    finally:
        _foot = before


class _Above(logging.Handler):
    """Lines on stderr, above what is redrawn there."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            line = self.format(record)
            if _foot is not None:
                _foot.above(line)
            else:
                tqdm.write(line, file=sys.stderr)
                sys.stderr.flush()
        except Exception:  # as logging's own handlers have it
            self.handleError(record)


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


class _Ear(logging.Handler):
    """Remembers lines."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = list[tuple[int, str]]()

    def emit(self, record: logging.LogRecord) -> None:
        """Remember one."""
        self.heard.append((record.levelno, record.getMessage()))


@contextmanager
def silent() -> Iterator[None]:
    """Inside, nothing is said: what a process does that others share, whose first tells of it. Errors pass."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        yield


@contextmanager
def overheard() -> Iterator[list[tuple[int, str]]]:
    """Inside, what the project logs goes into a list, as level and line, for another process to tell."""
    ear = _Ear()
    level, propagate = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    log.addHandler(ear)
    try:
        yield ear.heard
    finally:
        log.removeHandler(ear)
        log.setLevel(level)
        log.propagate = propagate


@contextmanager
def telling(file: Path | None = None) -> Iterator[None]:
    """What the project logs goes to stderr, above the progress bars; with a file also to its end, and with the time."""
    handlers = [_Above(), *([_File(file)] if file else [])]
    level, propagate = log.level, log.propagate
    log.setLevel(logging.INFO)
    log.propagate = False
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s  %(message)s", "%Y-%m-%d %H:%M:%S") if file else None)
        log.addHandler(handler)
    try:
        yield
    finally:
        log.setLevel(level)
        log.propagate = propagate
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()
