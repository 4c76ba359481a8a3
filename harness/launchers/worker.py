"""Train one job of an experiment: `harness/launchers/worker.py JOB`, which launchers start as a process of its own.

The settled experiment arrives on stdin as a line of JSON; whoever sends it keeps stdin open as long as it lives, for a
worker ends with its sender. SIGUSR2 lets it save its state after the step that it is at, and leave.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

    from common.interrupts import listen

    listen()

import torch

from common.command import Parser, answer
from common.errors import BadInput, found
from common.interrupts import hear_requests
from common.machine import pick_device
from common.progress import telling
from common.schema import filled
from harness.data.pool import Pools, fingerprint
from harness.evaluate import Evaluator
from harness.graph import Job, jobs
from harness.launchers.staging import staged
from harness.launchers.work import Work, gathered, log, trained
from harness.progress import is_held
from harness.settings import Experiment
from harness.workplace import Busy, held

LOOK = 2.0  # seconds between two looks at what another process holds


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 it failed, 2 bad input, 128 + n for signal n."""
    return answer(lambda: _main(argv))


def _main(argv: list[str] | None) -> int:
    parser = Parser(prog="harness/launchers/worker.py", description=__doc__)
    parser.add_argument("job", nargs="?", help="the name of its folder, such as plain-s0")
    parser.add_argument("identity", nargs="?", help="of the job, as whoever starts this computed it")
    parser.add_argument("--gather", action="store_true", help="gather the rows of all jobs instead")
    args = parser.parse_args(argv)
    hear_requests()
    plain = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_sender, daemon=True).start()
    with telling():
        return _work(args, plain)


def _work(args: argparse.Namespace, plain: dict[str, Any]) -> int:
    if plain["launcher"]["name"] == "slurm" and plain["launcher"]["stage"] is not None:
        plain = staged(plain, plain["launcher"]["stage"])
    experiment = filled(Experiment, plain, where="stdin")
    pools = Pools(Path(experiment.runtime.cache))
    todo = jobs(experiment, fingerprint=lambda data: fingerprint(pools(data)))
    if args.gather:
        gather(todo, experiment)
        return 0
    job = next(job for job in todo if job.name == args.job)
    if job.identity != args.identity:
        raise BadInput(
            f"{job.name} is {job.identity} here and was {args.identity} where it was launched: want the same code and "
            "the same data there and here; give the experiment's command again"
        )
    return 0 if work_on(job, todo, experiment, pools) else 1


def gather(todo: Sequence[Job], experiment: Experiment) -> None:
    """Put the rows of all evaluations into the experiment's table."""
    folder = Path(experiment.runtime.folder) / experiment.name
    with patiently(folder):
        evaluator = Evaluator(experiment, folder)
        for job in todo:
            gathered(job, evaluator, set())


def work_on(job: Job, todo: Sequence[Job], experiment: Experiment, pools: Pools) -> bool:
    """Train one job; False where what it computes is not finite."""
    device = pick_device(experiment.device)
    if experiment.runtime.threads:
        torch.set_num_threads(experiment.runtime.threads)
    with tempfile.TemporaryDirectory() as nowhere:  # the rows are gathered from the marks of the steps
        evaluator = Evaluator(experiment, Path(nowhere))
        work = Work(experiment, job.folder, todo, [], pools, evaluator, device)
        while True:
            try:
                return trained(job, work)
            except Busy as busy:
                log.info("%s waits: %s", job.name, found(busy))
            while is_held(job.folder):
                time.sleep(LOOK)


@contextmanager
def patiently(folder: Path) -> Iterator[None]:
    """Hold a folder as soon as nobody else does."""
    with ExitStack() as holding:
        while True:
            try:
                holding.enter_context(held(folder))
                break
            except Busy:
                time.sleep(LOOK)
        yield


def _end_with_sender() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
