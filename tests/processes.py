"""Processes as `torchrun` starts them, forked from the test, which saves each of them the imports."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable
from multiprocessing.context import ForkProcess
from pathlib import Path
from typing import Any, NamedTuple


class Ended(NamedTuple):
    """How a process ended, and what it said."""

    code: int
    out: str
    err: str


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


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


def _act(rank: int, world: int, port: int, act: Callable[[], Any], folder: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    # pytest's own capture hears nothing of this
    sys.stdout, sys.stderr = ((folder / f"{rank}.{kind}").open("w", buffering=1) for kind in ("out", "err"))
    sys.exit(act())
