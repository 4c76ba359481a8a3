"""What a Slurm job of ours does: it starts a worker, which saves its state at its time limit, and requeues itself.

Light, since submitit loads it in each job before the worker loads the rest.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil
from submitit.core.utils import DelayedSubmission

from common.interrupts import REQUESTS, RESUME
from harness.launchers.worker_process import PROGRAM, send

# Exit codes of a worker that was told to go: once it trains, and before
LEFT = (RESUME, 128 + signal.SIGTERM, *(-number for number in REQUESTS))
OUR_TURN = 120.0  # seconds in which the signal that a worker has heeded arrives here too


class Task:
    """Called by submitit, it runs a worker with these words, and `then` other programs of ours, one after the other."""

    def __init__(
        self, words: Sequence[str], config: dict[str, Any], *, grace: float, then: Sequence[Sequence[str]] = ()
    ) -> None:
        self.words, self.config, self.grace, self.then = words, config, grace, then
        self.process: int | None = None

    def __call__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.config["runtime"]["threads"])}
        command = [sys.executable, PROGRAM, *self.words]
        with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as worker:
            self.process = worker.pid
            send(self.config, worker)
            refuse_failed(command, worker.wait())
        for program in self.then:
            command = [sys.executable, *program]
            refuse_failed(command, subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode)

    def checkpoint(self) -> DelayedSubmission:
        """Ahead of the time limit, inside a signal's handler: what goes on once the job is requeued is on the disk."""
        if self.process is not None and psutil.pid_exists(self.process):
            os.kill(self.process, signal.SIGUSR2)
            try:
                psutil.Process(self.process).wait(timeout=0.8 * self.grace)
            except psutil.TimeoutExpired:  # its last state is on the disk all the same
                os.kill(self.process, signal.SIGKILL)
            except psutil.NoSuchProcess:
                pass
        return DelayedSubmission(Task(self.words, self.config, grace=self.grace, then=self.then))


def refuse_failed(command: Sequence[str], code: int) -> None:
    """Raises `RuntimeError` where a program has failed; one that was told to go was told so ahead of us."""
    if code in LEFT:
        time.sleep(OUR_TURN)
    if code:
        raise RuntimeError(f"{' '.join(command)}: exit code {code}")
