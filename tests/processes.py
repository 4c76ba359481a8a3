"""Processes without the time of imports: as `torchrun` starts them, forked from the test, and scripts by themselves."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.soaking.forked import forked

ROOT = Path(__file__).resolve().parents[1]


class Ended(NamedTuple):
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str


def started(world: int, act: Callable[[], Any], folder: Path) -> list[ForkProcess]:
    """`world` processes that call `act` and exit with what it returns; what they say lies in `folder`."""
    port = free_port()
    fork = multiprocessing.get_context("fork")
    folder.mkdir(exist_ok=True)
    processes = [fork.Process(target=_act, args=(rank, world, port, act, folder)) for rank in range(world)]
    for one in processes:
        one.start()
    return processes


def ended(processes: list[ForkProcess], folder: Path, *, within: float = 60) -> list[Ended]:
    """How they ended; one that has not after so many seconds fails the test, and is killed."""
    for one in processes:
        one.join(within)
    late = [rank for rank, one in enumerate(processes) if one.exitcode is None]
    for one in processes:
        one.kill()
    assert not late, f"processes {late} hang"
    return [
        Ended(one.exitcode or 0, *((folder / f"{rank}.{kind}").read_text() for kind in ("out", "err")))
        for rank, one in enumerate(processes)
    ]


def together(world: int, act: Callable[[], Any], folder: Path) -> list[Ended]:
    """What becomes of `world` processes that call `act`."""
    return ended(started(world, act, folder), folder)


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def become(rank: int, world: int, port: int) -> None:
    """Make this process, which was just forked, one of several as `torchrun` starts them."""
    gc.freeze()  # to look through all that the test's process holds would copy each of its pages
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def _act(rank: int, world: int, port: int, act: Callable[[], Any], folder: Path) -> None:
    become(rank, world, port)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    # pytest's own capture hears nothing of this
    sys.stdout, sys.stderr = ((folder / f"{rank}.{kind}").open("w", buffering=1) for kind in ("out", "err"))
    sys.exit(act())


class Command:
    """`python SCRIPT words…` at work, with what of `subprocess.Popen` tests ask for; what it says lies in `folder`."""

    def __init__(self, script: str, *words: object, folder: Path) -> None:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="said-", delete=False) as out:
            self._out, self._err = Path(out.name), Path(f"{out.name}.err")
        self._process = forked(ROOT / script, [str(word) for word in words], out=self._out, err=self._err)
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it is at work."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To it alone, if it is still at work."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """By SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def said(self) -> tuple[str, str]:
        """What it has printed until now, and what it has complained of."""
        return self._out.read_text(), self._err.read_text() if self._err.exists() else ""

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it said, once it has ended; one that has not in so many seconds fails the test."""
        self._process.join(timeout)
        assert self.poll() is not None, f"process {self.pid} hangs"
        return self.said()
