"""`launcher=slurm`: a Slurm job for each job of the graph, by submitit, after what it forks from; a last one reports.

What is submitted lives by itself: the command ends, and `gramlab status` tells how it goes. The same command submits
again what is neither done nor in the queue.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from common.errors import BadInput, first_line
from harness.job import Job
from harness.launchers.jobs import Work, is_finished, sent, words
from harness.lockstep import side_by_side
from harness.standings import queued, read_launch, write_launch
from harness.trackers.mirrors import mirror

ROOT = Path(__file__).resolve().parents[2]
REPORT = str(ROOT / "reports" / "build.py")
OFTEN = 10**6  # times that a job may put itself in the queue again

log = logging.getLogger("gramlab")


def launch(work: Work) -> set[str] | None:
    """Submit what is neither done nor in the queue, and a job that gathers and reports when all of it has ended.

    None where something goes on in Slurm; no failures where all is done already.
    """
    record = read_launch(work.folder)
    live = queued(record.slurm.values())
    known = {name: number for name, number in record.slurm.items() if number in live}
    numbers, new = dict(known), list[str]()
    try:
        left = [job for job in work.jobs if job.name not in numbers and not is_finished(job, work)]
        while left:
            job, these = left[0], [left[0]]
            if (number := of_equal_content(job, work, numbers)) is None:
                these = side_by_side(job, (one for one in left if not any(need in left for need in one.needs)))
                new.append(number := submitted(work, job.name, words(these), need=need_of(these, work, numbers)))
            numbers |= {one.name: number for one in these}
            left = [one for one in left if one not in these]
        if new:
            need = {"dependency": ":".join(["afterany", *dict.fromkeys(numbers.values())])}
            told = [mirror(work.folder, name) for name in work.experiment.trackers]
            report = [REPORT, str(work.folder), *([] if work.experiment.runtime.draw else ["--tables"])]
            submitted(work, "report", ["--gather"], need=need, then=[report, *told])
        write_launch(work.folder, replace(record, slurm=record.slurm | numbers))
    except BaseException:
        if new:
            subprocess.run(["scancel", *new], check=False)
        raise
    if not numbers:
        return set()
    waited = len({*known.values()})
    log.info("%d Slurm jobs submitted, %d were in the queue: gramlab watch %s", len(new), waited, work.folder)
    return None


def of_equal_content(job: Job, work: Work, numbers: Mapping[str, str]) -> str | None:
    """The number of the Slurm job that does this job under the name of another arm; None where there is none."""
    return next((numbers[one.name] for one in work.jobs if one.content == job.content and one.name in numbers), None)


def need_of(these: Sequence[Job], work: Work, numbers: Mapping[str, str]) -> dict[str, str]:
    """What a Slurm job of ours waits for: all that its jobs need, and others of their segments, which one alone can
    train.

    A Slurm job of several students fails where one of them does, so what goes on from another waits for its end alone;
    what goes on from the one that failed finds no state, and fails as well.
    """
    needed = dict.fromkeys(numbers[need.name] for job in these for need in job.needs if need.name in numbers)
    own = {job.identity for job in these}
    segment = [one.name for one in work.jobs if one.identity in own and one.name in numbers]
    beside = dict.fromkeys(numbers[name] for name in segment if numbers[name] not in needed)
    trains = Counter(numbers.values())
    waits = [f"{'afterok' if trains[number] == 1 else 'afterany'}:{number}" for number in needed]
    waits += [f"afterany:{number}" for number in beside]
    return {"dependency": ",".join(waits), "kill-on-invalid-dep": "yes"} if waits else {}


def submitted(
    work: Work, name: str, words: Sequence[str], *, need: Mapping[str, str], then: Sequence[Sequence[str]] = ()
) -> str:
    """The number of a new Slurm job: a worker, and what comes after it. Raises `BadInput` where Slurm takes it not."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    from harness.launchers.slurm_task import Task

    launcher = work.experiment.launcher
    given = {"account": launcher.account, "partition": launcher.partition, "qos": launcher.qos}
    flags = {"cpus-per-task": torch.get_num_threads() + work.experiment.runtime.workers, **launcher.flags}
    executor = SlurmExecutor(folder=work.folder / "slurm", max_num_timeout=OFTEN)
    executor.update_parameters(
        job_name=f"{work.experiment.name}-{name}",
        time=launcher.minutes,
        signal_delay_s=launcher.grace,
        stderr_to_stdout=True,
        setup=[f"export PYTHONPATH={shlex.quote(str(ROOT))}${{PYTHONPATH:+:$PYTHONPATH}}"],
        additional_parameters={
            **{flag: value for flag, value in flags.items() if value is not False},
            "requeue": True,
            **need,
        },
        **{key: value for key, value in given.items() if value is not None},
    )
    try:
        return executor.submit(Task(words, sent(work), grace=launcher.grace, then=then)).job_id
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        raise BadInput(f"Slurm does not take the job of {name}: {first_line(error)}") from error


def refuse_no_slurm() -> None:
    """Raises `BadInput` where submitit is not installed, or this machine belongs to no cluster."""
    if find_spec("submitit") is None:
        raise BadInput("launcher=slurm needs submitit: install it by pip install 'gramlab[slurm]'")
    if shutil.which("sbatch") is None:
        raise BadInput("launcher=slurm: no sbatch here: want a machine of the cluster, or launcher=local")
