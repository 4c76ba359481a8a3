"""What the files of a run's folder hold that may be missing or damaged: a gap each, and what is damaged is told."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from common.at_work import is_held
from common.errors import BadInput
from common.records import BadStep, BadSteps, CurvePoint, Happening, Status, read_lines, read_record
from common.skips import Skip, recorded
from common.timeline import Timeline, read_timeline
from reports.parts import Curve, Line, Part

DRAWN = 1e30  # of larger values, which a run that blows up logs, no axis can be made


def watched_of(folder: Path, told: list[str]) -> tuple[Happening, ...]:
    """What a run measured of its features without labels, and decided; what is damaged is `told`."""
    try:
        found = read_lines(folder / "dense.jsonl", Happening)
    except BadInput as error:
        told.append(str(error))
        return ()
    told += found.told()
    return tuple(found.rows)


def skipped_of(folder: Path, told: list[str]) -> tuple[Skip, ...]:
    """The unreadable images that a run skipped; a damaged list is `told`."""
    try:
        return tuple(recorded(folder))
    except BadInput as error:
        told.append(str(error))
        return ()


def plan_of(folder: Path, told: list[str]) -> Timeline | None:
    """The plan as the run wrote it; None where an earlier version wrote none. A damaged one is `told`."""
    path = folder / "plan.json"
    try:
        return read_timeline(path) if os.path.lexists(path) else None
    except BadInput as error:
        told.append(str(error))
        return None


def status_of(folder: Path, told: list[str]) -> Status:
    """What `status.json` says; a damaged one is `told`. Who left without a word is not running any more."""
    path = folder / "status.json"
    try:
        said = read_record(path, Status, remedy="run the experiment again") if os.path.lexists(path) else Status()
        return replace(said, state="interrupted") if said.state == "running" and not is_held(folder) else said
    except BadInput as error:
        told.append(str(error))
        return Status()


def bad_steps_of(folder: Path, part: Part | None, told: list[str]) -> tuple[BadStep, ...]:
    """The steps of a lane's own part that were passed over, in their order; a damaged list is `told`."""
    path = folder / "bad_steps.json"
    try:
        found = read_record(path, BadSteps, remedy="restore it").steps if os.path.lexists(path) else []
    except BadInput as error:
        told.append(str(error))
        return ()
    start, stop = (0, None) if part is None else (part.start, part.stop)
    own = (one for one in found if start <= one.step and (stop is None or one.step < stop))
    return tuple(sorted(own, key=lambda one: one.step))


def curve_of(folder: Path, told: list[str]) -> Curve:
    """The training curve by name; later lines replace earlier ones of the same step. What is damaged is `told`."""
    try:
        found = read_lines(folder / "metrics.jsonl", CurvePoint)
    except BadInput as error:
        told.append(str(error))
        return {}
    told += found.told()
    points = {row["step"]: row for row in found.rows}
    names = dict.fromkeys(name for point in points.values() for name in point)
    curve = {name: {step: points[step].get(name) for step in sorted(points)} for name in names}
    lines = {
        name: {step: value for step, value in line.items() if value is not None and abs(value) < DRAWN}
        for name, line in curve.items()
    }
    return {
        name: Line(np.array([*line], dtype=float), np.array([*line.values()])) for name, line in lines.items() if line
    }
