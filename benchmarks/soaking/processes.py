"""The project's commands in processes that can be killed: begun anew, or forked from one that has imported all.

A process of the second kind is as real to kill, and begins within a tenth of a second. Several that share a run are
started by torchrun's own agent.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.soaking.forked import forked

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
ORPHANED = 60  # seconds in which processes must end whose torchrun was killed: they have 30, and notice it in 1
LAUNCHED = ROOT / "benchmarks/soaking/launched.py"


class Command(NamedTuple):
    """What is begun: `main` of a module, in how many processes that share it, with which words more."""

    module: str
    processes: int = 1
    words: tuple[str, ...] = ()

    @property
    def script(self) -> Path:
        """That of the module."""
        return ROOT / f"{self.module.replace('.', '/')}.py"


COMMANDS = {
    "run": Command("harness.run"),
    "sweep": Command("harness.sweep"),
    "pair": Command("harness.run", 2),
    "parts": Command("harness.run", 2, ("runtime.shard=true",)),
}
WHO = {1: ("all", "main"), 2: ("all", "torchrun", "first", "other")}  # is killed, by how many share a command


class Started(Protocol):
    """A command at work, the first of a group of processes."""

    pid: int

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit code, negative for a signal; None where it is still at work after that time."""
        ...


class _Anew:
    def __init__(self, command: Command, words: Sequence[str], said: Path) -> None:
        several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(command.processes)]
        with said.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, *(several if command.processes > 1 else []), str(command.script), *words],
                stdout=file, stderr=file, env={**os.environ, **ENVIRONMENT}, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    def wait(self, seconds: float | None = None) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode


class _Forked:
    def __init__(self, command: Command, words: Sequence[str], said: Path) -> None:
        script, given = command.script, [*words]
        if command.processes > 1:
            script, given = LAUNCHED, [str(command.processes), command.module, *words]
        self._process = forked(script, given, out=said, err=said, environment={**os.environ, **ENVIRONMENT})
        assert self._process.pid is not None
        self.pid = self._process.pid

    def wait(self, seconds: float | None = None) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode


def start(command: str, words: Sequence[str], said: Path, *, anew: bool) -> Started:
    """Begin one of `COMMANDS` with these words; what it prints goes to the end of `said`."""
    chosen = COMMANDS[command]
    return (_Anew if anew else _Forked)(chosen, [*words, *chosen.words], said)


def sharing(process: Started) -> list[int]:
    """The processes that torchrun's agent has begun, in the order of their ranks."""
    found = [int(one) for path in Path(f"/proc/{process.pid}/task").glob("*/children") for one in _words(path)]
    stats = {pid: _stat(pid) for pid in found}
    leaders = [pid for pid, stat in stats.items() if stat[3:4] == [str(pid)]]  # of sessions of their own
    return sorted(leaders, key=lambda pid: (int(stats[pid][19]), pid))  # by when it began


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:  # it has ended
        return []


def _stat(pid: int) -> list[str]:
    """What the system tells of a process, from its state on; nothing where it has ended."""
    return " ".join(_words(Path(f"/proc/{pid}/stat"))).rpartition(") ")[2].split()


def kill(process: Started, who: str) -> None:
    """SIGKILL: to all; to the command's main process alone, or torchrun, whose children then outlive it; or to one of
    those that share the command, its loaders left. Where these are not there yet, all die."""
    shared = sharing(process)
    if who in ("first", "other") and len(shared) == 2:
        _kill(os.kill, shared[who == "other"])
    elif who == "torchrun" and len(shared) == 2:
        _kill(os.kill, process.pid)
        _await_end(shared)
    else:
        _kill(os.kill if who == "main" else os.killpg, process.pid)
        for pid in shared:
            _kill(os.killpg, pid)


def _kill(how: Callable[[int, int], None], pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        how(pid, signal.SIGKILL)


def _await_end(pids: Sequence[int]) -> None:
    """Wait until these have ended by themselves. Raises TimeoutError."""
    until = time.monotonic() + ORPHANED
    while any(_stat(pid)[:1] not in ([], ["Z"]) for pid in pids):
        if time.monotonic() > until:
            raise TimeoutError(f"processes {pids} work on without the torchrun that has started them")
        time.sleep(0.05)
