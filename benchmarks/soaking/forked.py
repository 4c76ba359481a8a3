"""The project's scripts in processes forked from one that has imported all: as real to kill, begun at once."""

from __future__ import annotations

import gc
import multiprocessing
import os
import runpy
import signal
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

AGENT = ("torch.distributed.launcher.api", "torch.distributed.elastic.rendezvous.c10d_rendezvous_backend")
IMPORTED = ("harness.run", "harness.sweep", "harness.launchers.worker", "reports.figures", *AGENT, __name__)


def forked(
    script: Path, words: Sequence[str], *, out: Path, err: Path, environment: Mapping[str, str] = os.environ
) -> ForkServerProcess:
    """Begin what `python script words…` would do, the first of a session of its own.

    The process that it is forked from is begun by the first call, with the environment of then.

    Args:
        out: file that what it prints is appended to; err: the same for what it complains of.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*IMPORTED])
    process = context.Process(target=_carry_out, args=(str(script), [*words], out, err, Path.cwd(), {**environment}))
    process.start()
    return process


def _carry_out(script: str, words: list[str], out: Path, err: Path, folder: Path, environment: dict[str, str]) -> None:
    """In the new process."""
    gc.freeze()  # else it looks through all that was imported, and copies its pages
    os.setsid()
    os.chdir(folder)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # which nohup or a shell's & may have had ignored
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    multiprocessing.set_start_method("fork", force=True)  # of loaders, as in a process that was begun anew
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout.reconfigure(line_buffering=True)  # pyright: ignore[reportAttributeAccessIssue] # text, as Python begins
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = [script, *words]
    runpy.run_path(script, run_name="__main__")
