"""Of which step each arm's Gram teacher is, over its steps: the age of what it is anchored to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from reports.lane_settings import lane_settings, lookup
from reports.lineage import legs
from reports.parts import Line
from reports.run_folder import Run

LIVE, OUTSIDE = "the EMA teacher as it moves", "a given checkpoint"


def teacher_age(run: Run, arm: str, seed: int) -> Line | str | None:
    """Steps, and how many steps before each the Gram teacher was taken, with an upright line where it is renewed.

    A phrase where it has no age: it moves along, or comes from outside; None where the arm has none, or nothing tells.
    """
    gram = _settings(run, arm)
    if not gram.get("weight"):
        return None
    if gram.get("teacher") in ("ema", "checkpoint"):
        return LIVE if gram["teacher"] == "ema" else OUTSIDE
    copies = _copies(run, arm, seed, gram)
    stop = max((row.step for row in run.rows if (row.arm, row.seed) == (arm, seed)), default=run.part(arm, seed).stop)
    if not copies or stop is None or stop <= min(copies):
        return None
    steps, ages = [], []
    ends = [*sorted(copies)[1:], stop]
    for begin, end in zip(sorted(copies), ends, strict=True):
        steps += [begin, end]
        ages += [begin - copies[begin], end - copies[begin]]
    return Line(np.array(steps, float), np.array(ages, float))


def _settings(run: Run, arm: str) -> Mapping[str, Any]:
    own = {
        key.removeprefix("gram."): value for key, value in lane_settings(run)[arm].items() if key.startswith("gram.")
    }
    return {**(lookup(run.config, "gram") or {}), **own}


def _copies(run: Run, arm: str, seed: int, gram: Mapping[str, Any]) -> dict[int, int]:
    """By the step from which on it teaches, the step of the network that teaches; the loss's start first."""
    chosen = {one["step"]: one["teacher"] for one in run.watched.get((arm, seed), ()) if "teacher" in one}
    own = [one for one in run.watched.get((arm, seed), ()) if one["kind"] == "gram_start"]
    starts = [one["step"] for one in own] or [e.step for e in run.events.get(arm, ()) if e.kind == "gram_start"]
    if not starts:
        return {}
    start = min(starts)
    first = {"start": int(legs(run, arm, seed)[0].start), "best_dense": chosen.get(start, -1)}
    step = first.get(str(gram.get("teacher")), start if gram.get("teacher_step") is None else gram["teacher_step"])
    renewed = {e.step: chosen.get(e.step, e.step) for e in run.events.get(arm, ()) if e.kind == "gram_update"}
    return {} if step < 0 else {start: step} | {at: of for at, of in renewed.items() if at > start}
