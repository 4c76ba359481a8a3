"""Training states and exported backbones: seconds to write, to check and to read, beside plain safetensors.

    python benchmarks/checkpoints.py [--model nano vits] [--seconds 3]

Both write the same tensors to the same disk, in turns, and are synced; what ours does more is a digest of all numbers,
which is made anew when a state is read. Medians, since a disk's best time is a cache's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch
from safetensors.torch import load_file, save_file

from benchmarks.measure import note
from benchmarks.step import MODELS, Case, made_up, settings_of
from benchmarks.told import Parser
from common.speed import machine_line
from harness.beginning import fresh_state
from harness.checkpoint import export_weights, load_state, save_state, tensors_of, verified_step
from harness.model import patch_size
from harness.schedules import at
from harness.state import State
from harness.step import train_step

CPU = torch.device("cpu")


def state_of(model: str) -> State:
    """A state with moments: one step is taken."""
    settings = settings_of(Case(model, "off", "float32"))
    state = fresh_state(settings, 0, CPU)
    train_step(state, made_up(settings, patch_size(state.student.backbone), CPU), at(settings, 0), settings, seed=0)
    return state


def plainly(state: State, path: Path) -> None:
    """As anybody would write it, on the disk when it returns."""
    save_file({key: tensor.detach().contiguous() for key, tensor in tensors_of(state).items()}, path)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def runs_of(state: State, folder: Path) -> dict[str, Callable[[], object]]:
    """All that is measured, in an order in which each finds what it reads."""
    own, plain, weights = (folder / f"{name}.safetensors" for name in ("own", "plain", "weights"))
    return {
        "write": lambda: save_state(state, own, identity="made up"),
        "write plainly": lambda: plainly(state, plain),
        "check": lambda: _checked(own),
        "read": lambda: load_state(state, own, identity=None),
        "read plainly": lambda: load_file(plain),
        "export weights": lambda: export_weights(own, weights, dtype=torch.float32, teacher_alone=True),
    }


def _checked(path: Path) -> None:
    os.utime(path)  # what has not changed since it was checked is not checked again
    verified_step(path, identity=None)


def seconds_of(runs: Mapping[str, Callable[[], object]], least: float) -> dict[str, float]:
    """The median of each, in turns, until all together have had so many seconds each on average."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    while sum(map(sum, taken.values())) < least * len(runs) or not all(taken.values()):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - start)
    return {name: median(one) for name, one in taken.items()}


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=[*MODELS], help="default: both")
    parser.add_argument("--seconds", type=float, default=3.0, help="for each on average (default: %(default)s)")
    given = parser.parse_args(argv)
    print(machine_line(CPU))
    for model in given.model:
        with tempfile.TemporaryDirectory() as folder:
            state = state_of(model)
            found = seconds_of(runs_of(state, Path(folder)), given.seconds)
            size = (Path(folder) / "own.safetensors").stat().st_size / 2**20
        print(f"{model}, a state of {size:,.0f} MiB")
        for name, seconds in found.items():
            print(f"  {name:16}{1000 * seconds:10.1f} ms{size / seconds:10.0f} MiB/s", flush=True)
        ratio = found["write plainly"] / found["write"]
        note("checkpoints", model, {"mib": size, "seconds": found, "ratio": ratio}, device=CPU)
    return 0


if __name__ == "__main__":
    sys.exit(main())
