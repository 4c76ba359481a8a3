"""A run of a trunk and two arms that is told to trackers, the same run when it was half done, and what they show."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.run import main

NAME, ARMS = "ünï", {"plain": {}, "якорь": {"gram.weight": 2.0}}
LANES = {"trunk-s0": ["trunk"], "plain-s0": ["trunk", "plain"], "якорь-s0": ["trunk", "якорь"]}
SETS = {name: {"kind": "scenes", "size": 32, "count": 24, "seed": seed} for seed, name in enumerate("ab")}
TASKS = {name: {"protocol": name, "train": "a", "test": "b"} for name in ("knn", "segmentation")}
EVALS = {"every": 2, "size": 32, "pictures": 3, "sets": SETS, "tasks": TASKS}

Points = dict[str, list[tuple[int, float]]]  # by the metric's name, in the order of the steps


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_text: Callable[..., str]) -> Path:
    """The folder of the whole run; `tiny.yaml` beside the folder of runs asks for it."""
    place = tmp_path_factory.mktemp("tracked")
    file = place / "tiny.yaml"
    file.write_text(tiny_text(place, name=NAME, arms=ARMS, trunk={"steps": 2}, evals=EVALS, steps=4))
    assert main([str(file), "runtime.draw=true"]) == 0
    return place / "runs" / NAME


@pytest.fixture(scope="session")
def half(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run after step 3, before it had a report."""
    runs = tmp_path_factory.mktemp("half") / "runs"
    shutil.copytree(run.parent, runs, symlinks=True)
    for curve in runs.glob(".segments/*/metrics.jsonl"):
        rows = curve.read_text().splitlines()
        curve.write_text("".join(f"{row}\n" for row in rows if json.loads(row)["step"] < 4) + '{"step": 4, "lo')
    for late in runs.glob(".segments/*/step_000004"):
        shutil.rmtree(late)
    for status in runs.glob(".segments/*/status.json"):
        status.write_text('{"state": "running", "step": 3, "steps": 4}')
    for report in (runs / NAME).glob("report.*"):
        report.unlink()
    return runs / NAME


@pytest.fixture(scope="session")
def expected(run: Path) -> Callable[[str], Points]:
    """What the run's tables say of a job, all that leads to it included."""
    jobs = json.loads((run / "experiment.json").read_text())["jobs"]

    def of(name: str) -> Points:
        found: Points = {}
        for arm in LANES[name]:
            own = jobs[f"{arm}-s0"]
            for point in lines(run / f"{arm}-s0" / "metrics.jsonl"):
                if own["start"] < point["step"] <= own["stop"]:
                    for key, value in point.items():
                        found.setdefault(f"train/{key}", []).append((point["step"], value))
            rows = [row for row in lines(run / "results.jsonl") if row["arm"] == arm]
            for row in sorted(rows, key=lambda row: row["step"]):
                key = f"evals/{row['eval']}/{row['dataset']}/{row['metric']}"
                found.setdefault(key, []).append((row["step"], row["value"]))
        del found["train/step"]
        return found

    return of
