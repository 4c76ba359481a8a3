"""Signals that end a command – Ctrl-C, `kill`, a closed terminal – at any moment in one line and with an exit code.

What can be gone on with (`resumable`) is asked to leave by some of them, and says so by its exit code. Cheap to import:
it comes before the imports that take seconds.
"""

from __future__ import annotations

import gc
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

WARNINGS = (signal.SIGUSR1, signal.SIGUSR2)  # a scheduler's, Slurm's ahead of a job's time limit
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, *WARNINGS)
PATIENCE = 5.0  # seconds for what an interruption sets off; a further signal changes nothing in them
REQUESTS = (signal.SIGTERM, *WARNINGS)  # what asks a process to leave: `kill`, preemption
RESUME = os.EX_TEMPFAIL  # 75, the exit code of who has left: the same command goes on
BROKEN_OFF, ENDED = 20.0, 28.0  # seconds after which who has not left is broken off, and where that does not help ended
ECHO = 1.0  # seconds in which a signal comes again without being another one: some send it to process and group
_began: tuple[int, int] | None = None  # this process, and the one that began it
_answered = False  # whether an interruption was told already
_request: _Request | None = None  # what this process hears while it is `resumable`


class Interrupted(KeyboardInterrupt):
    """One of `SIGNALS` has arrived."""

    def __init__(self, number: int) -> None:
        super().__init__(words(number))
        self.number = number
        self.code = code_of(number)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.number,), {"args": self.args}  # for processes that are told of it


class Leaving(Interrupted):
    """This process was asked to leave and does so; what it was at is saved, or has been broken off."""

    def __init__(self, number: int, how: str = "") -> None:
        super().__init__(number)
        self.args = (f"asked to leave by {signal.Signals(number).name}{how}",)
        self.code = RESUME


def code_of(number: int) -> int:
    """The exit code of who is ended by a signal: what a shell reports of who died of it; after warnings `RESUME`."""
    return RESUME if number in WARNINGS else 128 + number


def words(number: int) -> str:
    """How an interruption is told."""
    return "interrupted" if number == signal.SIGINT else f"interrupted by {signal.Signals(number).name}"


def listen() -> None:
    """From a command's first line on, a signal ends it at once: until `interruptible`, nothing is at stake.

    Nor is there garbage: until `answer`, Python looks for none among what is imported, which takes it a second.
    """
    global _began
    _began = os.getpid(), os.getppid()
    _take(_leave)
    gc.disable()


def parent() -> int:
    """The process that began this one, dead or alive, where it has listened from its first line on."""
    return _began[1] if _began is not None and _began[0] == os.getpid() else os.getppid()


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
    """In a worker process: what reaches all of a group, as Ctrl-C does, is the main process's to answer."""
    for number in {*SIGNALS} - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_IGN:  # which a loader of torch has undone, and dies of it
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


@contextmanager
def resumable(grace: float | None = None) -> Iterator[None]:
    """Inside, `REQUESTS` ask the main thread to leave where that costs least: see `is_asked_to_leave`.

    Who has not left after `BROKEN_OFF` seconds is broken off by `Leaving`, and ended after `ENDED` where even that does
    nothing. A second SIGTERM ends at once, as outside; the other two may come any number of times.

    grace: seconds until the process is killed after SIGUSR2, where somebody says it; 60 % of them are its own.
    """
    global _request
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _request = _request, _Request(grace)
    _request.listen()
    try:
        yield
    finally:
        _request.forget()
        _request = before


def is_asked_to_leave() -> bool:
    """Whether somebody has asked this process to leave: its work ends once what it is at is done, and is saved."""
    return _request is not None and _request.number is not None


def leave_if_asked(save: Callable[[], object] | None = None) -> None:
    """Leave where somebody has asked for it: `save` first, which is not broken off any more. Raises `Leaving`."""
    if _request is not None and _request.number is not None:
        _request.leaves.set()
        if save is not None:
            save()
        raise Leaving(_request.number)


class _Request:
    """Whether and by what this process was asked to leave, and what happens to it if it does not."""

    def __init__(self, grace: float | None) -> None:
        self.process, self.grace = os.getpid(), grace
        self.number: int | None = None
        self.since, self.overdue = math.inf, False
        self.before = dict[int, Any]()
        self.asked, self.leaves, self.over = (threading.Event() for _ in range(3))

    def listen(self) -> None:
        for number in REQUESTS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self.before[number] = signal.signal(number, self.hear)
        # Begun now: a signal may come while another thread begins, and could not begin one then
        threading.Thread(target=self.watch, daemon=True).start()

    def forget(self) -> None:
        for event in (self.over, self.leaves, self.asked):
            event.set()
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def hear(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self.process:  # in a worker just forked
            return
        if self.number is None:
            self.number, self.since = number, time.monotonic()
            self.before[signal.SIGCHLD] = _deaf_to_children()
            self.asked.set()
        elif self.overdue:
            self.overdue = False
            raise Leaving(self.number, f", broken off after {time.monotonic() - self.since:.0f} s")
        elif number == signal.SIGTERM and time.monotonic() - self.since > ECHO and callable(self.before[number]):
            self.before[number](number, frame)

    def watch(self) -> None:
        """In a thread: break the main one off where it does not leave, and end it where it cannot be interrupted.

        What is on the disk is whole at any time.
        """
        self.asked.wait()
        if self.number is None:
            return
        patience = BROKEN_OFF if self.grace is None or self.number != signal.SIGUSR2 else 0.6 * self.grace
        if not self.leaves.wait(patience):
            self.overdue = True
            signal.pthread_kill(threading.main_thread().ident or 0, self.number)
        if not self.over.wait(self.since + patience + ENDED - BROKEN_OFF - time.monotonic()):
            spent = time.monotonic() - self.since
            said = (
                f"{Leaving(self.number, f', ended after {spent:.0f} s')}; the same command goes on from its last state"
            )
            os.write(2, f"gramlab: {said}\n".encode())
            os._exit(RESUME)


class _Ends:
    """What ends a command while it works, and until when further signals are not heard."""

    def __init__(self) -> None:
        self.process, self.deaf_until, self.hook = os.getpid(), -math.inf, sys.unraisablehook
        self.silenced: dict[int, Any] = {}

    def interrupt(self, number: int, _: FrameType | None) -> None:
        self.silenced.setdefault(signal.SIGCHLD, _deaf_to_children())
        if os.getpid() != self.process or time.monotonic() < self.deaf_until:  # the former in a worker just forked
            return
        global _answered
        _answered, self.deaf_until = True, time.monotonic() + PATIENCE
        raise Interrupted(number)

    def unraisable(self, lost: Any) -> None:
        """Python drops an exception that is raised while an object is removed: the signal is sent once more."""
        if not isinstance(lost.exc_value, Interrupted):
            self.hook(lost)
            return
        if isinstance(lost.exc_value, Leaving) and _request is not None:
            _request.overdue = True
        threading.Timer(0.05, self.again, (lost.exc_value.number,)).start()

    def again(self, number: int) -> None:
        """Hear the signal, which until now was not to be raised in the midst of Python's dropping it."""
        self.deaf_until = -math.inf
        os.kill(self.process, number)


def _deaf_to_children() -> Any:
    """What has heard of processes that end: where workers die of the same signal, torch raises an error in the midst of
    whatever happens here; that one has died in this very moment too."""
    try:
        return signal.signal(signal.SIGCHLD, lambda *_: None)
    except RuntimeError:
        return signal.signal(signal.SIGCHLD, lambda *_: None)


def _leave(number: int, _: FrameType | None) -> None:
    if not _answered:
        os.write(2, f"gramlab: {words(number)} before anything was begun\n".encode())
    os._exit(code_of(number))


def _take(handler: Any) -> None:
    """Let `handler` have the signals, but for one that this process was told to ignore, as by `nohup`."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)
