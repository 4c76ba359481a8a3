"""How many seconds of the processor a report takes, stage by stage: of a run's folder, or of one that is made up.

    python benchmarks/reports.py                           # 5 arms, 3 seeds, 20 evaluations each
    python benchmarks/reports.py runs/gram_ablation        # nothing is written into it
    python benchmarks/reports.py --profile report.prof     # for snakeviz, or python -m pstats

Seconds of the processor, since those by the clock tell as much of what else the machine does.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np

from benchmarks.told import Parser
from common.command import columns
from evals.results.outcomes import save_outcomes
from evals.results.table import Measurement, append

IMAGES, LOGGED = 500, 500  # test images of an evaluation; logged steps of a job
EVERY, CLASSES = 100, 20  # steps from one evaluation to the next; classes of a segmentation
METRICS = {"knn": "top1", "linear": "top1", "segmentation": "miou", "depth": "rmse"}
SERIES = ("loss", "dino_global", "dino_local", "ibot", "koleo", "grad_norm", "lr", "momentum")
T = TypeVar("T")


def made_up(folder: Path, *, arms: int, seeds: int, evaluations: int) -> Path:
    """A run's folder as training leaves it, of random numbers; what images contributed is kept of every evaluation."""
    names, rng = [f"arm{number}" for number in range(arms)], np.random.default_rng(0)
    record = {"name": folder.name, "baseline": names[0], "seeds": [*range(seeds)], "steps": evaluations * EVERY}
    folder.mkdir()
    (folder / "experiment.json").write_text(json.dumps(record | {"arms": {name: {} for name in names}}))
    for arm in names:
        for seed in range(seeds):
            lane = folder / f"{arm}-s{seed}"
            lane.mkdir()
            _curve(lane / "metrics.jsonl", rng, last=evaluations * EVERY)
            for step in range(EVERY, evaluations * EVERY + 1, EVERY):
                found = [_measured(name, rng) for name in METRICS]
                save_outcomes(lane / f"step_{step:06d}" / "outcomes", found)
                rows = [one.row(run=folder.name, arm=arm, seed=seed, step=step) for one in found]
                append(folder / "results.jsonl", rows)
    return folder


def _curve(path: Path, rng: np.random.Generator, *, last: int) -> None:
    steps = np.linspace(1, last, LOGGED).astype(int).tolist()
    points = ({"step": step, "images": 32 * step, "seconds": 0.5 * step} for step in steps)
    lines = (point | dict(zip(SERIES, rng.random(len(SERIES)).tolist(), strict=True)) for point in points)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _measured(name: str, rng: np.random.Generator) -> Measurement:
    areas = rng.integers(1, 50, (2, IMAGES, CLASSES)).astype(float)
    outcomes = {
        "top1": {"correct": rng.integers(0, 2, IMAGES).astype(float)},
        "rmse": {"rmse": rng.random(IMAGES)},
        "miou": {"intersect": areas.min(axis=0), "predicted": areas[0], "truth": areas[1]},
    }[METRICS[name]]
    value = float(rng.random())
    return Measurement(
        eval=name, protocol="quick-v1", protocol_hash="00", size=64, dataset="made_up", split="val", data="00",
        metric=METRICS[name], value=value, low=value - 0.02, high=value + 0.02, images=IMAGES,
        outcomes={"keys": np.array([f"val/{number:06d}" for number in range(IMAGES)]), **outcomes},
    )  # fmt: skip


def stages(folder: Path) -> dict[str, float]:
    """Seconds of the processor of each stage of `reports.build.build`, but for writing into the folder."""
    taken: dict[str, float] = {}

    def timed(name: str, act: Callable[[], T]) -> T:
        start = time.process_time()
        result = act()
        taken[name] = time.process_time() - start
        return result

    timed("imports", lambda: __import__("reports.build"))
    from reports.compared import compare
    from reports.figures import render
    from reports.page import style
    from reports.pdf import as_pdf
    from reports.run_folder import read
    from reports.twin.page import twin

    run = timed("read", lambda: read(folder))
    compared = timed("compare", lambda: compare(run))
    with style():
        pages = timed("draw", lambda: render(run, compared))
        timed("pdf", lambda: as_pdf(pages, title=run.name))
    timed("html", lambda: twin(run, compared))
    print(f"{folder.name}: {len(run.arms)} arms, {len(run.seeds)} seeds, {len(run.rows)} rows, {len(pages)} pages")
    return taken | {"all": sum(taken.values())}


def main() -> None:
    """Print what each stage took."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="runs/<experiment>, which is only read")
    parser.add_argument("--arms", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--evaluations", type=int, default=20, help="of each arm and seed")
    parser.add_argument("--profile", type=Path, metavar="FILE", help="write where the time went")
    options = parser.parse_args()
    size = {"arms": options.arms, "seeds": options.seeds, "evaluations": options.evaluations}
    with TemporaryDirectory() as place:
        folder = options.run or made_up(Path(place) / "made_up", **size)
        with cProfile.Profile() if options.profile else nullcontext() as profile:
            taken = stages(folder)
        if profile is not None:
            profile.dump_stats(options.profile)
    print(columns([[name, f"{seconds:.1f} s"] for name, seconds in taken.items()]))


if __name__ == "__main__":
    main()
