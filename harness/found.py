"""What an experiment stands on, a line each for plan and log: run folder, training images, sets, protocols."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common.errors import listing, told_of_all
from evals import suite
from evals.one_task import TaskSpec
from harness.backbones import released
from harness.components import MOST, distinct
from harness.data.mixing import Part, mixture
from harness.data.pool import Pool
from harness.data_settings import Data
from harness.job import Job
from harness.model import sizes_of
from harness.recipe import Model

SHOWN = 6  # components in a line


def found_lines(
    folder: Path, jobs: Sequence[Job], pool_of: Callable[[Data], Pool], tasks: Mapping[str, TaskSpec]
) -> list[str]:
    """A line for the folder, those of what is trained, one for each set and one for each task."""
    held = [f"evaluation set {told}" for told in suite.found_lines(tasks)]
    trained = told_of_all(trained_lines(jobs, pool_of))
    return [f"run folder: {folder}", *trained, *held, *(_task(name, task) for name, task in tasks.items())]


def trained_lines(jobs: Sequence[Job], pool_of: Callable[[Data], Pool]) -> dict[str, list[str]]:
    """By arm a line for its model, for released weights, and for each source of its pool."""
    arms: dict[str, dict[str, None]] = {}
    for job in jobs:
        starts = released.told(job.settings.model) if job.start == 0 else []
        training = _training(job.settings.data, pool_of(job.settings.data))
        arms.setdefault(job.arm, {}).update(dict.fromkeys((_model(job.settings.model), *starts, *training)))
    return {arm: [*lines] for arm, lines in arms.items()}


def _model(model: Model) -> str:
    sizes = sizes_of(model)
    return (
        f"model {released.settled(model).name}: {sizes.million} weights, {sizes.depth} blocks of width {sizes.width}, "
        f"patches of {sizes.patch} px"
    )


def _training(data: Data, pool: Pool) -> list[str]:
    return [*(f"training source {told}" for told in pool.found().values()), *_composed(data, pool)]


def _composed(data: Data, pool: Pool) -> list[str]:
    """What batches are made of, but for those of all images alike. Raises BadInput for names that the pool has not."""
    found, told, lines = mixture(pool, data), [], []
    if found.share and len(found.alone) == 1 and data.homogeneous is None:
        key, only = f"data.homogeneous_share={found.share}", next(iter(found.alone))
        lines.append(f"{key}: the pool is the one component {only}, so a homogeneous batch is a batch like any other")
    elif found.share or data.homogeneous is not None:
        told.append(f"{found.share:.3g} of them from one of: {_weighted(found.alone)}")
    if data.mixed is not None:
        told.append(f"{'the others' if told else 'mixed ones'} from {_weighted(found.mixed)}")
    lines += [f"batches: {'; '.join(told)}"] if told else []
    few = [f"{name} {len(part.members)}" for name, part in found.alone.items() if len(part.members) < data.batch_size]
    if told and found.share and few:
        lines.append(
            f"batches of one component repeat images where it has fewer than {data.batch_size}: {listing(few)}"
        )
    if (count := len(distinct(pool, data))) > MOST:
        lines.append(f"curves tell {MOST} of {count} components apart, the first ones")
    return lines


def _weighted(parts: Mapping[str, Part]) -> str:
    total = sum(part.weight for part in parts.values())
    return listing([f"{name} {part.weight / total:.3g}" for name, part in parts.items()], most=SHOWN)


def _task(name: str, task: TaskSpec) -> str:
    fitted = f"fitted on {task.train_set.name}/{task.train_set.split}, " if task.train_set is not None else ""
    judged = f"judged on {task.test_set.name}/{task.test_set.split}"
    return f"evaluation {name}: {task.protocol.id} #{task.protocol.hash()} at {task.protocol.size} px, {fitted}{judged}"
