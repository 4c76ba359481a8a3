"""The project's commands in processes that can be killed: begun anew, or forked from one that has imported all.

A process of the second kind is as real to kill, and begins within a tenth of a second.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

ROOT = Path(__file__).resolve().parents[2]
OF = {"run": "harness.run", "sweep": "harness.sweep"}
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}


class Started(Protocol):
    """A command at work, the first of a group of processes."""

    pid: int

    def wait(self, seconds: float | None = None) -> int | None:
        """Its exit code, negative for a signal; None where it is still at work after that time."""
        ...


class _Anew:
    def __init__(self, command: str, words: Sequence[str], said: Path) -> None:
        script = ROOT / OF[command].replace(".", "/")
        with said.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, f"{script}.py", *words],
                stdout=file, stderr=file, env={**os.environ, **ENVIRONMENT}, start_new_session=True,
            )  # fmt: skip
        self.pid = self._process.pid

    def wait(self, seconds: float | None = None) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        return self._process.returncode


class _Forked:
    def __init__(self, command: str, words: Sequence[str], said: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([*OF.values(), "reports.figures", __name__])
        self._process = context.Process(target=_carry_out, args=(command, [*words], said))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def wait(self, seconds: float | None = None) -> int | None:
        self._process.join(seconds)
        return self._process.exitcode


def _carry_out(command: str, words: list[str], said: Path) -> None:
    """In the new process: what the command's own script does."""
    from importlib import import_module

    os.setsid()
    multiprocessing.set_start_method("fork", force=True)  # of loaders, as in a process that was begun anew
    file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.environ.update(ENVIRONMENT)
    sys.exit(import_module(OF[command]).main(words))


def start(command: str, words: Sequence[str], said: Path, *, anew: bool) -> Started:
    """Begin `gramlab run` or `gramlab sweep` with these words; what it prints goes to the end of `said`."""
    return (_Anew if anew else _Forked)(command, words, said)


def kill(process: Started, *, group: bool) -> None:
    """SIGKILL, to all of its group or to it alone, whose children then outlive it."""
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
