"""`launcher=slurm`: a Slurm job for each job of the graph, by submitit, after what it forks from; a last one reports.

What is submitted lives by itself: the command ends, and `gramlab status` tells how it goes. The same command submits
again what is neither done nor in the queue.
"""

from __future__ import annotations

import logging
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch

from common.errors import BadInput, first_line
from harness.launchers.work import Work, is_finished, sent
from harness.progress import queued, read_launch, write_launch

ROOT = Path(__file__).resolve().parents[2]
WORKER = str(ROOT / "harness" / "launchers" / "worker.py")
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
    new: dict[str, str] = {}
    try:
        for job in work.jobs:
            if job.name not in known and not is_finished(job, work):
                parent = (known | new).get(job.parent.name) if job.parent else None
                need = {"dependency": f"afterok:{parent}", "kill-on-invalid-dep": "yes"} if parent else {}
                new[job.name] = submitted(work, job.name, [[WORKER, job.name, job.identity]], need)
        if new:
            need = {"dependency": ":".join(["afterany", *known.values(), *new.values()])}
            submitted(work, "report", [[WORKER, "--gather"], [REPORT, str(work.folder)]], need)
    except BaseException:
        if new:
            subprocess.run(["scancel", *new.values()], check=False)
        raise
    write_launch(work.folder, replace(record, slurm=record.slurm | new))
    if not new and not known:
        return set()
    log.info("%d Slurm jobs submitted, %d were in the queue: gramlab watch %s", len(new), len(known), work.folder)
    return None


def submitted(work: Work, name: str, programs: list[list[str]], need: Mapping[str, str]) -> str:
    """The number of a new Slurm job that runs these programs. Raises `BadInput` where Slurm does not take it."""
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
        return executor.submit(Task(programs, sent(work), grace=launcher.grace)).job_id
    except (FailedJobError, FailedSubmissionError, OSError) as error:
        raise BadInput(f"Slurm does not take the job of {name}: {first_line(error)}") from error


def refuse_no_slurm() -> None:
    """Raises `BadInput` where submitit is not installed, or this machine belongs to no cluster."""
    if find_spec("submitit") is None:
        raise BadInput("launcher=slurm needs submitit: install it by pip install 'gramlab[slurm]'")
    if shutil.which("sbatch") is None:
        raise BadInput("launcher=slurm: no sbatch here: want a machine of the cluster, or launcher=local")
