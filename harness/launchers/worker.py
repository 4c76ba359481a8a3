"""Train jobs of an experiment, most often one: `harness/launchers/worker.py JOB IDENTITY …`, which launchers start.

The settled experiment arrives on stdin as a line of JSON; whoever sends it keeps stdin open as long as it lives, for a
worker leaves with its sender. SIGTERM, SIGUSR1 and SIGUSR2 let it finish its step, save its state and leave.
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

from common.command import Parser, answer, end
from common.errors import BadInput
from common.interrupts import resumable
from common.machine import pick_device
from common.progress import telling
from common.schema import filled
from harness import store
from harness.data.pool import Pools, fingerprint
from harness.evaluate import Evaluator
from harness.graph import jobs
from harness.job import Job
from harness.job_folder import is_done
from harness.launchers.jobs import Work, gathered, trained
from harness.launchers.staging import staged
from harness.settings import Experiment
from harness.trackers.mirrors import mirrored
from harness.workplace import held, patiently


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 it failed, 2 bad input, 75 it was asked to leave, 128 + n for signal n."""
    return answer(lambda: _main(argv))


def _main(argv: list[str] | None) -> int:
    parser = Parser(prog="harness/launchers/worker.py", description=__doc__)
    told = "name of a job's folder, such as plain-s0, and its identity, as whoever starts this computed it; and so on"
    parser.add_argument("jobs", nargs="*", metavar="JOB IDENTITY", help=told)
    parser.add_argument("--gather", action="store_true", help="gather the rows of all jobs instead")
    args = parser.parse_args(argv)
    if not (line := sys.stdin.buffer.readline()):
        raise BadInput("got no settings on stdin: want them from a launcher; give the experiment's command")
    plain = json.loads(line)
    threading.Thread(target=_end_with_sender, daemon=True).start()
    launcher = plain["launcher"]
    with resumable(launcher["grace"] if launcher["name"] == "slurm" else None), telling():
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
    known = {job.name: job for job in todo}
    these = [known[name] for name in args.jobs[::2]]
    for job, identity in zip(these, args.jobs[1::2], strict=True):
        if job.identity != identity:
            raise BadInput(
                f"{job.name} is {job.identity} here and was {identity} where it was launched: want the same code and "
                "the same data there and here; give the experiment's command again"
            )
    return 0 if work_on(these, todo, experiment, pools) else 1


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


def work_on(these: Sequence[Job], todo: Sequence[Job], experiment: Experiment, pools: Pools) -> bool:
    """Train jobs side by side; False where what one of them computes is not finite."""
    device = pick_device(experiment.device)
    if experiment.runtime.threads:
        torch.set_num_threads(experiment.runtime.threads)
    trackers = experiment.trackers if experiment.launcher.name == "slurm" else ()  # else whoever started this one tells
    folder = Path(experiment.runtime.folder) / experiment.name
    told = mirrored(folder, trackers, only=[job.name for job in these])
    with told, tempfile.TemporaryDirectory() as nowhere:  # the rows are gathered from the marks of the steps
        evaluator = Evaluator(experiment, Path(nowhere))
        work = Work(experiment, these[0].folder, todo, [], pools, evaluator, device)
        return not patiently(lambda: trained(these, work), name=these[0].name)


def _end_with_sender() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    end(main())
