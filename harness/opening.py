"""What comes before anything is written: an experiment with nothing left to choose, and the plan of its jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from common.machine import pick_device
from common.ranks import device_of, joined
from common.records import Asked
from common.timeline import Timeline
from harness import memory
from harness.choices import settle
from harness.data.pool import Pools
from harness.evaluate import Evaluator
from harness.found import found_lines
from harness.job import Job
from harness.job_folder import lost
from harness.kept import Fault, faults
from harness.launchers.crew import crew as crew_of
from harness.measures import headline
from harness.plan import Estimate, estimates, plan
from harness.pointless import pointless
from harness.record import recorded
from harness.settings import Experiment
from harness.timeline import planned_arms, timeline


class Opening(NamedTuple):
    """An experiment with nothing left to choose, and what its jobs are trained with.

    record: what its folder holds of an earlier start.
    workers: jobs at once.
    chosen: lines for the plan on what was left to the machine.
    """

    experiment: Experiment
    folder: Path
    record: Asked
    device: torch.device
    pools: Pools
    workers: int
    chosen: Sequence[str]


class Planned(NamedTuple):
    """A plan: its text and drawing, what its jobs cost, what the log tells of it, and what of the jobs is not whole."""

    text: str
    expected: Mapping[str, Estimate]
    timeline: Timeline
    told: Sequence[str]
    broken: Sequence[Fault]


def opened(experiment: Experiment) -> Opening:
    """Choose what is left to the machine. Raises `BadInput` for a damaged record, and for what cannot fit."""
    elsewhere = experiment.launcher.name == "slurm"
    device = device_of(pick_device("auto" if elsewhere else experiment.device))
    folder = Path(experiment.runtime.folder) / experiment.name
    record = recorded(folder)
    tight = [] if elsewhere else memory.check(experiment, device)
    crew = crew_of(experiment, device, record=record)
    experiment, choices = settle(experiment, device, record=record, share=crew.share)
    pools = Pools(Path(experiment.runtime.cache))
    world = joined().world
    shared = [_shared(experiment, world)] if world > 1 else []
    return Opening(experiment, folder, record, device, pools, crew.workers, [*crew.lines, *choices, *shared, *tight])


def _shared(experiment: Experiment, world: int) -> str:
    held = "; each holds a part of the weights (runtime.shard)" if experiment.runtime.shard else ""
    return f"processes: {world} share each step and each evaluation, by torchrun; the first of them does all else{held}"


def planned(
    opening: Opening, todo: Sequence[Job], evaluator: Evaluator, *, repeats: Mapping[str, int] | None = None
) -> Planned:
    """The plan of these jobs. Raises `BadInput` for what no run can do.

    repeats: of an arm that stands for several, how many of them are to be trained.
    """
    experiment, folder, tasks = opening.experiment, opening.folder, evaluator.tasks
    headline(experiment.headline, tasks)  # raises BadInput before anything is trained
    arms, broken = planned_arms(todo), faults(todo)
    told = [*found_lines(folder, todo, opening.pools, tasks), *evaluator.lost(todo, broken), *lost(todo)]
    choices = [*opening.chosen, *pointless(arms)]
    if experiment.sweep.objectives and repeats is None:
        choices.append("note: the file describes a sweep; its arms alone are run here, `gramlab sweep` runs its trials")
    expected = estimates(experiment, todo, tasks, opening.device)
    text = plan(
        experiment,
        todo,
        tasks,
        opening.device,
        expected=expected,
        repeats=repeats,
        choices=choices,
        found=told,
        broken=broken,
        pictures=evaluator.pictures.planned(todo),
    )
    return Planned(text, expected, timeline(experiment, arms, record=opening.record), told, broken)
