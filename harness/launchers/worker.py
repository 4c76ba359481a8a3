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
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

    from common.interrupts import listen

    listen()

import torch

from common.command import Parser, answer
from common.errors import BadInput
from common.interrupts import hear_requests
from common.machine import pick_device
from common.progress import telling
from common.schema import filled
from harness import store
from harness.data.pool import Pools, fingerprint
from harness.evaluate import Evaluator
from harness.graph import Job, jobs
from harness.job_folder import is_done
from harness.launchers.jobs import Work, gathered, trained
from harness.launchers.staging import staged
from harness.settings import Experiment
from harness.workplace import held, patiently


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
    if not (line := sys.stdin.buffer.readline()):
        raise BadInput("got no settings on stdin: want them from a launcher; give the experiment's command")
    plain = json.loads(line)
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
    """Put the rows of all evaluations into the experiment's table, and link it to all that is done."""
    folder = Path(experiment.runtime.folder) / experiment.name
    with ExitStack() as holding:
        patiently(lambda: holding.enter_context(held(folder)), name="the report")
        evaluator = Evaluator(experiment, folder)
        for job in todo:
            gathered(job, evaluator, set())
            if is_done(job):
                store.link(job.view, job.folder)


def work_on(job: Job, todo: Sequence[Job], experiment: Experiment, pools: Pools) -> bool:
    """Train one job; False where what it computes is not finite."""
    device = pick_device(experiment.device)
    if experiment.runtime.threads:
        torch.set_num_threads(experiment.runtime.threads)
    with tempfile.TemporaryDirectory() as nowhere:  # the rows are gathered from the marks of the steps
        evaluator = Evaluator(experiment, Path(nowhere))
        work = Work(experiment, job.folder, todo, [], pools, evaluator, device)
        return patiently(lambda: trained(job, work), name=job.name)


def _end_with_sender() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
