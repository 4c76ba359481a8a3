"""Synthetic runs with pictures of features, as evaluations leave them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from evals.results.pictured import About, ImageKey, Known, Seen, features_path, images_folder, save

EVALUATIONS = "e0"
GRID, SIDE, WIDTH = (4, 6), (32, 48), 16
THREE = {arm: {"gram.weight": weight} for arm, weight in (("plain", 0.0), ("anchored", 1.0), ("renewed", 2.0))}
SEGMENTS = ["wall", "floor", "猫"]


@pytest.fixture
def pictured(make_run: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a run with pictures of each evaluated step; see `add_pictures`."""

    def write(*, images: Sequence[str] = tuple(f"val/{n:06d}" for n in range(0, 240, 40)), heads=True, **how) -> Path:
        config = {"evals": {"pictures": len(images), "tasks": {"depth": {}}}, **how.pop("config", {})}
        how.setdefault("arms", THREE)
        folder = make_run(steps=40, trunk_steps=20, every=10, evaluations=EVALUATIONS, config=config, **how)
        keys = [ImageKey("scenes", "val", key) for key in images]
        add_pictures(folder, keys, heads=heads)
        return folder

    return write


def about(keys: Sequence[ImageKey], *, heads: bool = True) -> About:
    named = {"scenes/val": "depth-quick-v1 #aa"} if heads else {}
    return About(1, 32, [*keys], segmentation=named, depth=named, segments={"scenes/val": SEGMENTS} if heads else {})


def add_pictures(folder: Path, keys: Sequence[ImageKey], *, heads: bool = True) -> None:
    """Patches that drift from one start for all arms, by so much at each step, and predictions near the truth."""
    for lane in sorted(path for path in folder.iterdir() if path.is_dir()):
        steps = {row["step"] for row in rows(folder) if f"{row['arm']}-s{row['seed']}" == lane.name}
        known = {key: truth(key, heads=heads) for key in keys}
        save(images_folder(lane, EVALUATIONS) / f"images-{len(keys)}.npz", about(keys, heads=heads), known)
        for step in steps:
            seen = {key: sight(key, known[key], lane.name, step) for key in keys}
            save(features_path(lane / f"step_{step:06d}", EVALUATIONS), about(keys, heads=heads), seen)


def rows(folder: Path) -> list[Mapping]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def truth(key: ImageKey, *, heads: bool) -> Known:
    rng = np.random.default_rng([*key.key.encode()])
    image = rng.integers(0, 256, (*SIDE, 3)).astype(np.uint8)
    if not heads:
        return Known(image)
    classes = rng.integers(0, 3, SIDE).astype(np.uint8)
    classes[:2] = 255
    return Known(image, classes, rng.uniform(0, 5, SIDE).astype(np.float16))


def sight(key: ImageKey, known: Known, lane: str, step: int) -> Seen:
    start, drift = (np.random.default_rng([*key.key.encode(), *own]) for own in (b"", lane.encode()))
    patches = start.normal(size=(*GRID, WIDTH)) + 0.02 * step * drift.normal(size=(*GRID, WIDTH))
    if known.depth is None:
        return Seen(patches.astype(np.float16))
    return Seen(patches.astype(np.float16), np.roll(known.segmentation, step), known.depth + np.float16(0.01 * step))
