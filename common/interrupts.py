"""Signals that end a command – Ctrl-C, `kill`, a closed terminal – at any moment in one line and with an exit code.

Cheap to import: it comes before the imports that take seconds.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 5.0  # seconds for what an interruption sets off; a further signal changes nothing in them
_answered = False  # whether an interruption was told already
_asked = False  # whether this process is to leave at the next good moment


class Interrupted(KeyboardInterrupt):
    """One of `SIGNALS` has arrived."""

    def __init__(self, number: int) -> None:
        super().__init__(words(number))
        self.code = 128 + number  # what a shell reports for a process that died of it


def words(number: int) -> str:
    """How an interruption is told."""
    if number == signal.SIGUSR2:
        return "asked to leave"
    return "interrupted" if number == signal.SIGINT else f"interrupted by {signal.Signals(number).name}"


def listen() -> None:
    """From a command's first line on, a signal ends it at once: until `interruptible`, nothing is at stake."""
    _take(_leave)


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside, a signal raises `Interrupted` in the main thread; others within `PATIENCE` leave its cleanup alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ends = _Ends()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _take(ends.interrupt)
    sys.unraisablehook = ends.unraisable
    try:
        yield
    finally:
        ends.deaf_until = math.inf
        sys.unraisablehook = ends.hook
        for number, handler in (before | ends.silenced).items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """A signal that comes while worker processes are started is heard once they are: they would be left half made.

    They begin with theirs held back too, until `ignore_in_worker`.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_in_worker() -> None:
    """In a worker process: Ctrl-C and a closed terminal reach it too, and are the main process's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def hear_requests() -> None:
    """From here on SIGUSR2 ends nothing at once: `is_asked_to_leave` tells of it, and work ends where that costs least.

    Slurm sends it ahead of a job's time limit, to worker processes too, in which it changes nothing.
    """

    def ask(*_: Any) -> None:
        global _asked
        _asked = True

    signal.signal(signal.SIGUSR2, ask)


def is_asked_to_leave() -> bool:
    """Whether somebody has sent SIGUSR2 since `hear_requests`."""
    return _asked


class _Ends:
    """What ends a command while it works, and until when further signals are not heard."""

    def __init__(self) -> None:
        self.process, self.deaf_until, self.hook = os.getpid(), -math.inf, sys.unraisablehook
        self.silenced: dict[int, Any] = {}

    def interrupt(self, number: int, _: FrameType | None) -> None:
        try:
            self.silence()
        except RuntimeError:  # as `silence` tells: one has died in this very moment
            self.silence()
        if os.getpid() != self.process or time.monotonic() < self.deaf_until:  # the former in a worker just forked
            return
        global _answered
        _answered, self.deaf_until = True, time.monotonic() + PATIENCE
        raise Interrupted(number)

    def silence(self) -> None:
        """Where workers die of the same signal, torch raises an error in the midst of whatever happens here."""
        self.silenced.setdefault(signal.SIGCHLD, signal.signal(signal.SIGCHLD, lambda *_: None))

    def unraisable(self, lost: Any) -> None:
        """Python drops an exception that is raised while an object is removed: the signal is sent once more."""
        if not isinstance(lost.exc_value, Interrupted):
            self.hook(lost)
            return
        threading.Timer(0.05, self.again, (lost.exc_value.code - 128,)).start()

    def again(self, number: int) -> None:
        """Hear the signal, which until now was not to be raised in the midst of Python's dropping it."""
        self.deaf_until = -math.inf
        os.kill(self.process, number)


def _leave(number: int, _: FrameType | None) -> None:
    if not _answered:
        os.write(2, f"gramlab: {words(number)} before anything was begun\n".encode())
    os._exit(128 + number)


def _take(handler: Any) -> None:
    """Let `handler` have the signals, but for one that this process was told to ignore, as by `nohup`."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
