"""Of which step each arm's Gram teacher is, over its steps: the age of what it is anchored to."""

from __future__ import annotations

import numpy as np

from reports.lane_settings import setting
from reports.lineage import legs
from reports.parts import Line
from reports.run_folder import Run

LIVE, OUTSIDE = "the EMA teacher as it moves", "a given checkpoint"


def teacher_age(run: Run, arm: str, seed: int) -> Line | str | None:
    """Steps, and how many steps before each the Gram teacher was taken, with an upright line where it is renewed.

    A phrase where it has no age: it moves along, or comes from outside; None where the arm has none, or nothing tells.
    """
    teacher = setting(run, arm, "gram.teacher")
    if not setting(run, arm, "gram.weight"):
        return None
    if teacher in ("ema", "checkpoint"):
        return LIVE if teacher == "ema" else OUTSIDE
    copies = _copies(run, arm, seed, str(teacher))
    stop = max((row.step for row in run.rows if (row.arm, row.seed) == (arm, seed)), default=run.part(arm, seed).stop)
    if not copies or stop is None or stop <= min(copies):
        return None
    steps, ages = [], []
    ends = [*sorted(copies)[1:], stop]
    for begin, end in zip(sorted(copies), ends, strict=True):
        steps += [begin, end]
        ages += [begin - copies[begin], end - copies[begin]]
    return Line(np.array(steps, float), np.array(ages, float))


def _copies(run: Run, arm: str, seed: int, teacher: str) -> dict[int, int]:
    """By the step from which on it teaches, the step of the network that teaches; the loss's start first."""
    chosen = {one["step"]: one["teacher"] for one in run.watched.get((arm, seed), ()) if "teacher" in one}
    own = [one for one in run.watched.get((arm, seed), ()) if one["kind"] == "gram_start"]
    starts = [one["step"] for one in own] or [e.step for e in run.events.get(arm, ()) if e.kind == "gram_start"]
    if not starts:
        return {}
    start = min(starts)
    first = {"start": int(legs(run, arm, seed)[0].start), "best_dense": chosen.get(start, -1)}
    given = setting(run, arm, "gram.teacher_step")
    step = first.get(teacher, start if given is None else given)
    renewed = {e.step: chosen.get(e.step, e.step) for e in run.events.get(arm, ()) if e.kind == "gram_update"}
    return {} if step < 0 else {start: step} | {at: of for at, of in renewed.items() if at > start}
