"""How a nano step grows with batch, crops, patches, prototypes and students, and a plan with its arms.

    python benchmarks/growth.py [--axes batch prototypes] [--seconds 2] [--device cuda]

Each axis is doubled from a small step on, all else left alone; steps are of one thread on a CPU, and its time is
counted. The last column is the power of what grows that two neighbours show: 1 for twice the time at twice the size.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from math import log2
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch

from benchmarks.measure import in_turns, note
from benchmarks.step import made_up
from benchmarks.told import Parser
from common.machine import pick_device
from common.speed import machine_line
from harness.beginning import fresh_state
from harness.config import load
from harness.graph import jobs
from harness.model import patch_size
from harness.plan import estimates
from harness.schedules import at
from harness.settings import Experiment
from harness.step import train_step

SMALL = {"data.batch_size": 16, "gram.weight": 0.0, "model.rope_rescale": "null", "model.drop_path": 0.0}
STEPS: dict[str, list[dict[str, Any]]] = {  # what each row sets
    "batch": [{"data.batch_size": size} for size in (8, 16, 32, 64)],
    "local crops": [{"crops.local_count": count} for count in (2, 4, 8, 16)],
    "patches": [{"crops.global_size": side, "crops.local_count": 2} for side in (64, 96, 128, 192)],
    "prototypes": [{"dino.head.prototypes": k, "ibot.head.prototypes": k} for k in (1024, 4096, 16384, 65536)],
}
STUDENTS = (1, 2, 4, 8)
ARMS = (1, 4, 16, 64)


class Row(NamedTuple):
    """A size, as it is told and as a number, and the seconds that it took."""

    told: str
    size: float
    seconds: float


def settings(own: dict[str, Any]) -> Experiment:
    given = {**SMALL, "ibot.weight": 1.0, "koleo.weight": 0.1, **own}
    return load(ROOT / "experiments" / "gram_ablation.yaml", [f"{key}={value}" for key, value in given.items()])


def stepping(experiment: Experiment, device: torch.device) -> Callable[[], object]:
    """A step of a fresh state on a made-up batch."""
    state = fresh_state(experiment, 0, device)
    batch, now = made_up(experiment, patch_size(state.student.backbone), device), at(experiment, 0)
    return lambda: train_step(state, batch, now, experiment, seed=0)


def best(run: Callable[[], object], device: torch.device, seconds: float) -> float:
    """The least time of a run, on a CPU of the processor."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    return in_turns({"run": run}, seconds=seconds, device=device, clock=clock)["run"]


def steps(axis: str, device: torch.device, seconds: float) -> list[Row]:
    """An axis of the step; patches count as those of a global crop."""
    found = []
    for own in STEPS[axis]:
        experiment, size = settings(own), next(iter(own.values()))
        patches = axis == "patches"
        number = (int(size) // 8) ** 2 if patches else int(size)
        told = f"{number} ({size} pixels)" if patches else f"{number:,}"
        found.append(Row(told, number, best(stepping(experiment, device), device, seconds)))
    return found


def students(device: torch.device, seconds: float) -> list[Row]:
    """Students side by side, each with a step of its own on one batch."""
    experiment, found = settings({}), []
    for count in STUDENTS:
        runs = [stepping(experiment, device) for _ in range(count)]
        found.append(Row(str(count), count, best(lambda runs=runs: [run() for run in runs], device, seconds)))
    return found


def arms(device: torch.device, seconds: float) -> list[Row]:
    """What a plan of so many arms costs on the CPU: their jobs, identities and estimates."""
    found, one = [], load(ROOT / "experiments" / "gram_ablation.yaml", ["baseline=null"])
    for count in ARMS:
        experiment = replace(one, arms={f"a{n}": {"gram": {"weight": 1 + n / 8}} for n in range(count)})

        def plan(experiment: Experiment = experiment) -> object:
            return estimates(experiment, jobs(experiment, fingerprint=lambda data: "made up"), {}, device)

        found.append(Row(str(count), count, best(plan, torch.device("cpu"), seconds)))
    return found


def main(argv: list[str] | None = None) -> int:
    axes = [*STEPS, "students", "arms"]
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=axes, default=axes, help="default: all")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="default: %(default)s")
    given = parser.parse_args(argv)
    device = pick_device(given.device)
    torch.set_num_threads(1)
    print(machine_line(device))
    for axis in given.axes:
        print(f"{axis:24}{'seconds':>10}{'power':>8}")
        rows = {"students": students, "arms": arms}.get(axis, lambda *how, axis=axis: steps(axis, *how))
        found = rows(device, given.seconds)
        for before, row in zip([None, *found], found, strict=False):
            power = log2(row.seconds / before.seconds) / log2(row.size / before.size) if before else None
            print(f"  {row.told:22}{row.seconds:10.3f}{'' if power is None else f'{power:8.2f}'}", flush=True)
        sizes, taken = [row.size for row in found], [row.seconds for row in found]
        note("growth", axis, {"sizes": sizes, "seconds": taken}, device=device)
    return 0


if __name__ == "__main__":
    sys.exit(main())
