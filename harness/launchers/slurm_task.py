"""What a Slurm job of ours does: it starts workers, which save their state at its time limit, and requeues itself.

Light, since submitit loads it in each job before the worker loads the rest.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import psutil
from submitit.core.utils import DelayedSubmission

LEFT = (128 + signal.SIGUSR2, 128 + signal.SIGTERM)  # exit codes of a worker that was told to go
OUR_TURN = 120.0  # seconds in which the signal that a worker has heeded arrives here too


class Task:
    """Called by submitit, it runs programs of ours one after the other, the settled experiment on their stdin."""

    def __init__(self, programs: Sequence[Sequence[str]], config: dict[str, Any], *, grace: float) -> None:
        self.programs, self.config, self.grace = programs, config, grace
        self.process: int | None = None

    def __call__(self) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(self.config["runtime"]["threads"])}
        for program in self.programs:
            with subprocess.Popen([sys.executable, *program], stdin=subprocess.PIPE, env=environment) as process:
                self.process = process.pid
                assert process.stdin is not None
                process.stdin.write(json.dumps(self.config).encode() + b"\n")
                process.stdin.flush()
                code = process.wait()
            if code in LEFT:
                time.sleep(OUR_TURN)
            if code:
                raise RuntimeError(f"{' '.join(program)}: exit code {code}")

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
        return DelayedSubmission(Task(self.programs, self.config, grace=self.grace))
