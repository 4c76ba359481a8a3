"""Synthetic runs: the files of a run as training leaves them, with numbers that move like real ones."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.results.outcomes import save_outcomes
from evals.results.table import Measurement, Row, append
from reports.build import build

IMAGES = 240
ABLATION = {
    "plain": {},
    "anchored": {"gram.weight": 2.0, "gram.start_step": 200},
    "renewed": {"gram.weight": 2.0, "gram.start_step": 240, "gram.update_every": 40},
    "double_resolution": {"gram.weight": 2.0, "gram.start_step": 200, "gram.resolution": 2.0},
    "ema_teacher": {"gram.weight": 2.0, "gram.start_step": 300, "gram.teacher": "ema"},
    "homogeneous": {"gram.weight": 0.0, "data.homogeneous_share": 0.5},
}
QUESTION = "Does Gram anchoring keep dense features good in a short run, and what does it cost in image-level accuracy?"
SOURCE = "DINOv3 §5 and Table 4 (Siméoni et al., arXiv 2508.10104); the anchor is the EMA teacher at the fork."
EXPECTED = "mIoU of the anchored arms stays above plain's by some points after the fork; kNN top-1 does not fall."
TASKS = {
    ("knn", "top1"): 0.34,
    ("linear", "top1"): 0.41,
    ("segmentation", "miou"): 0.36,
    ("segmentation", "pixel_accuracy"): 0.62,
    ("depth", "rmse"): 1.2,
    ("depth", "delta1"): 0.5,
}
TWO_SETS = {
    ("knn", "top1"): ("photos",),
    ("linear", "top1"): ("photos",),
    ("segmentation", "miou"): ("streets", "rooms"),
    ("segmentation", "pixel_accuracy"): ("streets", "rooms"),
    ("depth", "rmse"): ("rooms",),
    ("depth", "delta1"): ("rooms",),
}


@pytest.fixture(scope="session")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of six arms and one seed with its report; for reading only."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "gram_ablation", steps=40, trunk_steps=20, every=10)
    build(folder)
    return folder


@pytest.fixture(scope="session")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of three arms and three seeds; for reading only."""
    arms = {arm: ABLATION[arm] for arm in ("plain", "anchored", "renewed")}
    folder = tmp_path_factory.mktemp("runs") / "rooms"
    return write_run(folder, arms=arms, seeds=(0, 1, 2), steps=40, trunk_steps=20, every=10)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run into the test's folder; see `write_run`."""
    return lambda **how: write_run(tmp_path / how.pop("name", "gram_ablation"), **how)


def write_run(
    folder: Path,
    *,
    arms: dict[str, dict[str, Any]] | None = None,
    seeds: Sequence[int] = (0,),
    steps: int = 400,
    trunk_steps: int = 200,
    every: int = 40,
    died: bool = False,
    outcomes: int = 1,
    components: Sequence[str] = (),
    **record: Any,
) -> Path:
    """A run's folder, with what images contributed at the last so many steps (`outcomes`) of each arm.

    Curves tell the `components` apart, each asked for as many images as the others.

    With `died` the third arm failed, the fourth is running and the last never started.
    """
    arms = ABLATION if arms is None else arms
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "experiment.json").write_text(json.dumps(_record(folder.name, arms, seeds, steps, trunk_steps) | record))
    for seed in seeds:
        if trunk_steps:
            _lane(folder, "trunk", seed, range(0, trunk_steps + 1, every), total=trunk_steps, effect=0, outcomes=0)
        for number, arm in enumerate(arms):
            if died and number == len(arms) - 1:
                continue
            state = {2: "failed", 3: "running"}.get(number, "done") if died else "done"
            stop = steps if state == "done" else trunk_steps + (steps - trunk_steps) // 2
            effect = 0.02 * number * (1 if "gram.resolution" not in arms[arm] else 1.6)
            marks = sorted({*range(trunk_steps + every, stop, every), stop})
            _lane(
                folder, arm, seed, marks, total=steps, effect=effect, outcomes=outcomes, state=state, start=trunk_steps
            )
        for lane in folder.glob(f"*-s{seed}"):
            _with_components(lane / "metrics.jsonl", components)
    return folder


def _with_components(path: Path, names: Sequence[str]) -> None:
    """The first of them gives all images of even steps, the others share those of odd ones."""
    lines = []
    for line in map(json.loads, path.read_text().splitlines()):
        for number, name in enumerate(names):
            gives = (line["step"] % 2 == 0) == (number == 0)
            own = {"asked": 1 / len(names), "share": gives / (1 if number == 0 else len(names) - 1)}
            own |= {
                term: line[term] + 0.1 * number for term in ("dino_global", "ibot", "gram") if gives and term in line
            }
            line |= {f"components/{name}/{column}": value for column, value in own.items()}
        lines.append(json.dumps(line))
    path.write_text("\n".join(lines) + "\n")


def _record(name: str, arms: dict, seeds: Sequence[int], steps: int, trunk_steps: int) -> dict[str, Any]:
    events = {}
    for arm, overrides in arms.items():
        start, period = overrides.get("gram.start_step"), overrides.get("gram.update_every")
        events[arm] = [{"step": trunk_steps, "kind": "fork"}] if trunk_steps else []
        if start is not None:
            events[arm].append({"step": start, "kind": "gram_start"})
            events[arm] += (
                [{"step": s, "kind": "gram_update"} for s in range(start + period, steps, period)] if period else []
            )
    return {
        "name": name,
        "question": QUESTION,
        "source": SOURCE,
        "expected": EXPECTED,
        "cost": "10 minutes on 2 cores.",
        "baseline": next(iter(arms)),
        "seeds": list(seeds),
        "steps": steps,
        "trunk_steps": trunk_steps,
        "arms": {arm: {"overrides": overrides, "summary": _summary(overrides)} for arm, overrides in arms.items()},
        "events": events,
        "config": _config(),
        "environment": {
            **{"python": "3.11.9", "torch": "2.9.0", "cpu": "AMD EPYC 7B13", "cores": 2, "device": "cpu"},
            **{"precision": "float32", "platform": "Linux x86_64", "gramlab": "0.1.0", "git": "3f1c2a9e10"},
        },
        "notes": ["One seed: differences between arms prove nothing."] if len(seeds) == 1 else [],
        "losses": {
            "dino_global": {"title": "DINO, global crops", "anchored": False},
            "dino_local": {"title": "DINO, local crops", "anchored": False},
            "ibot": {"title": "iBOT", "anchored": False},
            "koleo": {"title": "KoLeo", "anchored": False},
            "gram": {"title": "Gram", "anchored": True},
        },
        "chance": {"top1": 1 / 6},
    }


def _summary(overrides: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in overrides.items()) or "the recipe without Gram"


def _config() -> dict[str, Any]:
    sections = {
        "model": {
            "name": "vit_nano_patch8",
            "args": {"embed_dim": 96, "depth": 4},
            "drop_path": 0.0,
            "rope_rescale": 2.0,
        },
        "dino": {
            "weight": 1.0,
            "student_temperature": 0.1,
            "head": {"hidden": 256, "bottleneck": 64, "prototypes": 128},
        },
        "ibot": {
            "weight": 1.0,
            "mask_ratio_min": 0.1,
            "mask_ratio_max": 0.5,
            "head": {"hidden": 256, "prototypes": 128},
        },
        "gram": {"weight": 0.0, "start_step": 0, "teacher": "snapshot", "update_every": None, "resolution": 1.0},
        "optimizer": {"lr": 2e-3, "warmup_steps": 50, "weight_decay": 0.04, "beta1": 0.9, "beta2": 0.99, "clip": 3.0},
        "crops": {f"setting_{number}": number / 10 for number in range(22)},
        "data": {
            "sources": {"scenes": {"kind": "scenes", "count": 20000, "classes": [f"class{n}" for n in range(40)]}},
            "homogeneous_share": 0.0,
        },
        "evals": {"every": 40, "sets": {"scenes": {"kind": "scenes", "split": "val", "count": IMAGES}}},
    }
    return {"name": "gram_ablation", "steps": 400, "device": "cpu", **sections}


def _lane(
    folder: Path,
    arm: str,
    seed: int,
    marks: Sequence[int],
    *,
    total: int,
    effect: float,
    outcomes: int,
    state: str = "done",
    start: int = 0,
) -> None:
    lane = folder / f"{arm}-s{seed}"
    lane.mkdir(exist_ok=True)
    last = marks[-1]
    status = {
        "state": state,
        "step": last,
        "steps": total,
        "seconds": 0.55 * (last - start),
        "images_per_second": 58.2 - 30 * effect,
        "peak_memory_gib": 1.4,
    } | ({"error": "step 300: dino_global=nan, ibot=7.1"} if state == "failed" else {})
    (lane / "status.json").write_text(json.dumps(status))
    _curve(lane, arm, seed, start=start, last=last, effect=effect)
    rng = np.random.default_rng([seed, *arm.encode()])
    found = []
    for step in marks:
        keep = step in marks[len(marks) - outcomes :]
        for name, metric in TASKS:
            value = _value(name, metric, step=step, since=max(0, step - start), effect=effect) + rng.normal(0, 0.006)
            half = 0.05 if metric == "rmse" else 0.02
            kept = _outcomes(metric, value, seed=seed) if keep else {}
            digest = f"{len(name):02d}ab54c0ffee"
            measured = Measurement(
                eval=name, protocol="quick-v1", protocol_hash=digest, size=64, dataset="scenes", split="val",
                data="5cab1e00", metric=metric, value=value, low=value - half, high=value + half, images=IMAGES,
                outcomes=kept,
            )  # fmt: skip
            found.append(measured.row(run=folder.name, arm=arm, seed=seed, step=step))
            if keep and metric not in ("delta1", "pixel_accuracy"):
                save_outcomes(lane / f"step_{step:06d}" / "outcomes", [measured])
    append(folder / "results.jsonl", found)


def _value(name: str, metric: str, *, step: int, since: int, effect: float) -> float:
    """Learns from the start; after the fork the arm's effect sets in and plain dense features get worse."""
    level, fall = TASKS[name, metric], np.exp(-step / 120)
    learnt = level * (1 + 0.3 * fall) if metric == "rmse" else level * (1 - 0.5 * fall)
    gain = effect * (1 - np.exp(-since / 60)) * {"rmse": -0.6, "miou": 1, "delta1": 0.6}.get(metric, -0.3)
    drift = max(0, step - 200) / 200 * {"miou": -0.03, "top1": 0.03}.get(metric, 0.0)
    return float(learnt + gain + drift)


def _outcomes(metric: str, value: float, *, seed: int) -> dict[str, np.ndarray]:
    """Per-image outcomes whose statistic is near `value`; the images' difficulty is shared by all arms of a seed."""
    rng = np.random.default_rng(seed + 77)
    own = np.random.default_rng(int(value * 1e9))
    keys = np.array([f"val/{number:06d}" for number in range(IMAGES)])
    if metric == "top1":
        return {"keys": keys, "correct": (rng.random(IMAGES) + own.normal(0, 0.1, IMAGES) < value).astype(float)}
    if metric == "miou":
        union = rng.integers(20, 200, (IMAGES, 5)).astype(float)
        share = np.clip(value + rng.normal(0, 0.1, union.shape) + own.normal(0, 0.1, union.shape), 0, 1)
        areas = union * (1 + share) / 2  # of prediction and truth alike
        return {"keys": keys, "intersect": union * share, "predicted": areas, "truth": areas}
    return {
        "keys": keys,
        "rmse": value + rng.normal(0, 0.3, IMAGES) + own.normal(0, 0.1, IMAGES),
        "delta1": own.random(IMAGES),
    }


def _curve(lane: Path, arm: str, seed: int, *, start: int, last: int, effect: float) -> None:
    rng = np.random.default_rng([seed, 5, *arm.encode()])
    lines = []
    for step in range(start + (start > 0), last + 1):
        fall = np.exp(-step / 150)
        terms = {
            "dino_global": 3.4 + 1.4 * fall,
            "dino_local": 3.6 + 1.2 * fall,
            "ibot": 3.2 + 1.6 * fall,
            "koleo": -0.5 + fall,
        }
        terms = {name: value + rng.normal(0, 0.05) for name, value in terms.items()}
        if effect and step >= 200:
            terms["gram"] = 0.03 * np.exp(-(step - 200) / 40) + 0.002 * (1 + 0.2 * rng.random())
        schedules = {
            "lr": 2e-3 * min(1, step / 50),
            "temperature": 0.04 + 0.03 * min(1, step / 100),
        }
        watch = {
            "student_entropy": 4.8 - 0.4 * fall,
            "target_entropy": 2.1 + fall,
            "grad_norm": float(np.exp(rng.normal(0, 0.5))),
        }
        line = {"step": step, "images": 32 * step, "seconds": 0.55 * (step - start), "loss": sum(terms.values())}
        lines.append(json.dumps(line | terms | schedules | watch))
    (lane / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def row(**changes: Any) -> Row:
    """A result row with the given fields changed."""
    base = {
        "run": "r",
        "arm": "plain",
        "seed": 0,
        "step": 100,
        "eval": "knn",
        "protocol": "quick-v1",
        "protocol_hash": "aa",
        "size": 64,
        "dataset": "scenes",
        "metric": "top1",
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "images": 100,
        "split": "val",
        "data": "5cab1e00",
    }
    return Row(**(base | changes))


@pytest.fixture
def make_row() -> Callable[..., Row]:
    """Makes a result row; see `row`."""
    return row


@pytest.fixture
def two_sets(make_row: Callable[..., Row]) -> Callable[[Sequence[str]], list[Row]]:
    """Makes rows of eight columns: segmentation on two data sets, everything else on one, at two steps per lane."""

    def rows(lanes: Sequence[str]) -> list[Row]:
        return [
            make_row(arm=arm, step=step, eval=name, metric=metric, dataset=dataset, protocol=f"{name}-quick-v1")
            for arm in lanes
            for step in ((0, 20) if arm == "trunk" else (30, 40))
            for (name, metric), datasets in TWO_SETS.items()
            for dataset in datasets
        ]

    return rows


@pytest.fixture
def bare_run(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run of given rows only, without curves, status or outcomes."""

    def write(rows: Sequence[Row], **record: Any) -> Path:
        folder = tmp_path / "bare"
        folder.mkdir(exist_ok=True)
        names = dict.fromkeys(row.arm for row in rows if row.arm != "trunk")
        base = {
            "name": "bare",
            "baseline": "plain",
            "seeds": sorted({row.seed for row in rows}),
            "arms": {name: {} for name in names},
        }
        (folder / "experiment.json").write_text(json.dumps(base | record))
        append(folder / "results.jsonl", rows)
        return folder

    return write
