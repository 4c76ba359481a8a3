"""`status.json` of a segment: how far it is, how fast it went, and what ended it."""

from __future__ import annotations

from dataclasses import asdict

import torch

from common.disk import write_json
from common.machine import peak_memory_gib
from common.records import Collapse, CurvePoint, read_lines
from harness.collapse import Watchman
from harness.curves import Curves
from harness.job import Job
from harness.standings import read_status
from harness.state import State


def write_status(job: Job, state: State, curves: Curves, *, state_name: str, error: str | None = None) -> None:
    """Replace `status.json`: how far the segment is and how fast it went."""
    logged: CurvePoint = {"step": curves.steps_logged, "seconds": curves.seconds_logged}
    device = next(state.student.parameters()).device
    saved = None if state_name == "done" else state.on_disk
    write_status_of(
        job, state.step, logged, device, state_name=state_name, error=error, collapse=curves.collapse, saved=saved
    )


def write_status_of(
    job: Job,
    step: int,
    logged: CurvePoint,
    device: torch.device,
    *,
    state_name: str,
    error: str | None = None,
    collapse: Collapse | None = None,
    saved: int | None = None,
) -> None:
    """Replace `status.json` of a segment at `step`; `logged` is the last row of its curve, `saved` its newest state's
    step."""
    seconds = logged.get("seconds", 0.0)
    images = (logged["step"] - job.root.start) * job.settings.data.batch_size
    status = {
        "state": state_name,
        "step": step,
        "steps": job.stop,
        "seconds": round(seconds, 1),
        "images_per_second": round(images / seconds, 2) if seconds > 0 else None,
        "peak_memory_gib": round(peak_memory_gib(device), 2),
    }
    ended = {"error": error} if error else {}
    signs = {"collapse": asdict(collapse)} if collapse else {}
    kept = {} if saved is None else {"saved": saved}
    write_json(job.folder / "status.json", status | ended | signs | kept)


def renew_status(job: Job, device: torch.device) -> None:
    """Say that a segment is done, where its status was lost or tells of a process that did not come to it."""
    status = read_status(job.folder)
    if status.state != "done" and (status.step or 0) <= job.stop:
        points = read_lines(job.folder / "metrics.jsonl", CurvePoint).rows
        watch = Watchman(job.settings, origin=job.origin)
        for point in points:
            watch(point)
        last: CurvePoint = points[-1] if points else {"step": job.stop}
        write_status_of(job, job.stop, last, device, state_name="done", collapse=watch.found)
