"""How many jobs run at once, and on how many threads each: by the plan's own estimates, unless settings say it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch

from common import machine
from harness.choices import Threads, named_threads
from harness.memory import most_held
from harness.settings import Experiment


class Crew(NamedTuple):
    """Jobs at once; the threads of each where nobody named them, None = measured; lines for the plan."""

    workers: int = 1
    share: Threads | None = None
    lines: tuple[str, ...] = ()


def crew(experiment: Experiment, device: torch.device, *, record: Mapping[str, Any]) -> Crew:
    """Of the launcher that the experiment has, on this machine."""
    launcher, jobs = experiment.launcher, len(experiment.seeds) * len(experiment.arms)
    if launcher.name == "slurm":
        count = int(launcher.flags.get("cpus-per-task", 1))
        return Crew(jobs, (count, "by launcher.flags.cpus-per-task, or 1"))
    if launcher.name == "none":
        return Crew()
    named = named_threads(experiment, device, record=record)
    cores, total = machine.cores(), machine.memory_bytes(torch.device("cpu"))
    need = most_held(experiment, split=device.type == "cuda")
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    most = min(gpus or cores // min(named[0] if named else 1, cores), int(total / need), jobs)
    workers = launcher.workers or max(1, most)
    has = f"{gpus} GPUs" if gpus else f"{cores} cores"
    line = f"launcher: local, {workers} jobs at once on {has}, {need / 2**30:.1f} of {total / 2**30:.1f} GiB each"
    return Crew(workers, (max(1, cores // workers), f"of {cores} cores for {workers} jobs at once"), (line,))
