"""The jobs that a launcher is given, and what every launcher does with one: train it, gather its rows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from common.steps import KINDS, folders_by_step
from harness import store
from harness.config import as_dict
from harness.data.pool import Pools
from harness.evaluate import Evaluator
from harness.job import Job
from harness.job_folder import is_done
from harness.kept import Fault
from harness.mending import bring_to_end
from harness.plan import Estimate
from harness.settings import Experiment

log = logging.getLogger("gramlab")


@dataclass(frozen=True)
class Work:
    """The jobs of an experiment, parents first, what is broken of them, and all that it takes to train them here.

    workers: jobs at once.
    expected: what each job will take, by its name.
    """

    experiment: Experiment
    folder: Path
    jobs: Sequence[Job]
    broken: Sequence[Fault]
    pools: Pools
    evaluator: Evaluator
    device: torch.device
    workers: int = 1
    expected: Mapping[str, Estimate] = field(default_factory=dict)


def sent(work: Work) -> dict[str, Any]:
    """The settled experiment as plain data, for processes that train jobs of it: with the threads of each."""
    runtime = replace(work.experiment.runtime, threads=torch.get_num_threads())
    return as_dict(replace(work.experiment, runtime=runtime))


def words(jobs: Sequence[Job]) -> list[str]:
    """What a process is told of the jobs that it shall train side by side."""
    return [word for job in jobs for word in (job.name, job.identity)]


def trained(these: Sequence[Job], work: Work) -> set[str]:
    """Mend and train jobs side by side; what is not finite ends a job, is logged, and leaves the others to go on.

    Returns the names of those that it ended. Raises `Busy` while another process is at work on one of them: two never
    train the same.
    """
    pool = work.pools(these[0].settings.data)
    failed = bring_to_end(these, work.jobs, pool, work.evaluator, device=work.device)
    for name, error in failed.items():
        log.error("%s: stopped, since not all is finite: %s", name, error)
    return {*failed}


def refused(job: Job, failed: set[str]) -> bool:
    """Whether a job cannot begin since one that it needs failed or could not begin; it is named, and fails too."""
    lost = next((need.name for need in job.needs if need.name in failed), None)
    if lost is None:
        return False
    log.error("%s: not started, since %s failed", job.name, lost)
    failed.add(job.name)
    return True


def gathered(job: Job, evaluator: Evaluator, known: set[int]) -> None:
    """Put the rows of a job's evaluations into the experiment's table, save those of steps in `known`, which grows."""
    for step, folder in folders_by_step(job.folder, KINDS[job.settings.evals.network]).items():
        if step not in known and job.is_evaluated(step) and evaluator.gathered(job, folder):
            known.add(step)


def is_finished(job: Job, work: Work) -> bool:
    """Whether nothing of a job is left to train or to evaluate, whoever did it under whatever name.

    The experiment is linked to it then, and has its rows.
    """
    if not is_done(job) or any(fault.job.name == job.name for fault in work.broken):
        return False
    folders = folders_by_step(job.folder, KINDS[job.settings.evals.network])
    if not all(work.evaluator.holds(job, folder) for step, folder in folders.items() if job.is_evaluated(step)):
        return False
    store.link(job.view, job.folder)
    return True
