"""What the plan expects of each job, kept beside the run for those who ask how far it is."""

from __future__ import annotations

from harness.cost import EFFICIENCY, forward_flops, machine_rate
from harness.launchers.work import Work
from harness.plan import job_cost
from harness.progress import Launch


def launch_of(work: Work) -> Launch:
    """The launcher, and the seconds that each job would take here: its steps, its evaluations."""
    rate = EFFICIENCY * machine_rate(work.experiment, work.device)
    sets = {id(one): one for task in work.evaluator.tasks.values() for one in (task.train_set, task.test_set) if one}
    images = sum(map(len, sets.values()))
    evaluation = images * forward_flops(work.experiment, work.experiment.evals.size) / rate
    expected = {job.name: (job_cost(job, rate)[0], len(job.evaluations) * evaluation) for job in work.jobs}
    return Launch(work.experiment.launcher.name, work.workers, expected)
