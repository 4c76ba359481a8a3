"""Memory, open files, threads and disk over thousands of nano steps in one process, each with its slope.

    python benchmarks/long_run.py [--steps 10000] [--every 100] [--minutes 25] [key=value ...]

A real job: loader processes, a Gram teacher that is renewed, checkpoints, evaluations; of eight images a step, since
what leaks does so by steps. A slope is fitted by least squares behind the first fifth of the steps, in which buffers
grow to their size; its interval counts correlated samples as fewer (Santer et al., J. Geophys. Res. 105, 2000). Tables
and exports of evaluated steps grow by design; states of training do not. Samples lie half-way between round steps, so
that none falls into an evaluation.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import numpy as np
import psutil
import torch
from scipy.stats import t

from benchmarks.measure import note
from benchmarks.told import Parser
from common.speed import machine_line
from harness.config import load
from harness.data.pool import Pools, fingerprint
from harness.evaluate import Evaluator
from harness.graph import jobs
from harness.job import Job
from harness.lockstep import Feed
from harness.settings import Experiment
from harness.train import stepwise

CPU = torch.device("cpu")
SETTLED = 0.2  # of the steps, after which slopes count
ARM = {"gram.weight": 5.0, "gram.start_step": 20, "gram.teacher": "snapshot", "gram.update_every": 40}


@dataclass(frozen=True)
class Sample:
    """What the process has after a step.

    resident: of itself, MiB. loaders: what its loaders share with nobody, MiB. states, others: on the disk, MiB.
    """

    step: int
    resident: float
    loaders: float
    handles: int
    threads: int
    states: float
    others: float


UNITS = {"resident": "MiB", "loaders": "MiB", "handles": "", "threads": "", "states": "MiB", "others": "MiB"}


def settings(folder: Path, steps: int, overrides: Sequence[str]) -> Experiment:
    """The nano model with a Gram teacher that is renewed every 40 steps; all that a run has is on."""
    own = [f"steps={steps}", "seeds=[0]", "runtime.workers=2", "evals.every=1000", "device=cpu", "runtime.threads=1"]
    own += ["data.batch_size=8"]
    arms = "arms={refreshed: {" + ", ".join(f"{key}: {value}" for key, value in ARM.items()) + "}}"
    places = [f"runtime.folder={folder / 'runs'}", f"runtime.cache={folder / 'cache'}"]
    given = [arms, "baseline=null", "gram={}", *own, *places, *overrides]
    return load(ROOT / "experiments" / "gram_ablation.yaml", given)


def sample(step: int, job: Job) -> Sample:
    """All of it now."""
    process = psutil.Process()
    children = sum(child.memory_full_info().uss for child in process.children(recursive=True))
    states = _disk(job.folder / "states")
    others = _disk(job.folder) - states + _disk(job.view.parent)
    resident = process.memory_info().rss
    sizes = (round(size / 2**20, 3) for size in (resident, children, states, others))
    resident, loaders, kept, grown = sizes
    return Sample(step, resident, loaders, process.num_fds(), process.num_threads(), kept, grown)


def _disk(folder: Path) -> int:
    """Bytes that files below a folder hold; what a link leads to is not counted."""
    files = (path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(512 * one.st_blocks for one in files)


def slope(steps: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """By least squares, for 1,000 steps, with its interval of 95 %: over fewer samples where neighbours are alike."""
    x, y = steps - steps.mean(), values - values.mean()
    fitted = float(x @ y / (x @ x))
    left = y - fitted * x
    alike = float(left[1:] @ left[:-1] / (left @ left)) if left @ left > 0 else 0.0
    free = max(len(x) * (1 - max(alike, 0.0)) / (1 + max(alike, 0.0)) - 2, 1.0)
    half = float(t.ppf(0.975, free) * np.sqrt(left @ left / free / (x @ x)))
    return tuple(1000 * one for one in (fitted, fitted - half, fitted + half))  # pyright: ignore[reportReturnType]


def told(found: Sequence[Sample]) -> dict[str, tuple[float, float, float]]:
    """Prints the slopes behind the first part, and returns them."""
    counted = [one for one in found if one.step >= SETTLED * found[-1].step]
    if len(counted) < 3:
        sys.exit(f"gramlab: got {len(counted)} samples behind the first fifth: want three; take more steps or --every")
    at, result = np.array([one.step for one in counted], float), {}
    for name, unit in UNITS.items():
        values = np.array([getattr(one, name) for one in counted], float)
        result[name] = slope(at, values)
        middle, low, high = result[name]
        said = f"{middle:+.3f} [{low:+.3f}, {high:+.3f}] {unit} in 1,000 steps"
        print(f"{name:>10}: {values.min():.1f} to {values.max():.1f} {unit}; {said}")
    return result


def run(experiment: Experiment, every: int, minutes: float) -> list[Sample]:
    """Train the one arm for that long at most, and sample every `every` steps."""
    pools = Pools(Path(experiment.runtime.cache))
    (job,) = jobs(experiment, fingerprint=lambda data: fingerprint(pools(data)))
    evaluator = Evaluator(experiment, job.view.parent)
    feed, found, end = Feed(pools(job.settings.data), device=CPU), list[Sample](), time.monotonic() + 60 * minutes
    for step in stepwise(job, feed, evaluator):
        if step % every == every // 2:
            found.append(sample(step, job))
            print("  ".join(f"{value:>10}" for value in vars(found[-1]).values()), flush=True)
        if time.monotonic() > end:
            break
    feed.close()
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = Parser(description="Memory, open files, threads and disk over a long run.")
    parser.add_argument("--steps", type=int, default=10_000, help="of training; 10,000 by default")
    parser.add_argument("--every", type=int, default=100, help="steps between samples; 100 by default")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="after which it ends; with its steps by default"
    )
    parser.add_argument("--folder", type=Path, help="where the run lies and stays; else it is removed")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of the experiment")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    print(machine_line(CPU))
    print("  ".join(f"{field.name:>10}" for field in fields(Sample)))
    with tempfile.TemporaryDirectory() as place:
        experiment = settings(args.folder or Path(place), args.steps, args.overrides)
        found = run(experiment, args.every, args.minutes)
    slopes = told(found)
    print(note("long_run", f"nano, {args.steps:,} steps", {"last": vars(found[-1]), "slopes": slopes}, device=CPU))


if __name__ == "__main__":
    main()
