"""`experiment.json`: what an experiment asked, its arms and when things happen to them, for the report."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evals.suite import TaskSpec
from harness.config import as_dict, flatten
from harness.graph import Job, events
from harness.metrics import write_json
from harness.plan import gram_words
from harness.settings import Experiment, SetKind


def write_record(
    folder: Path, experiment: Experiment, jobs: Sequence[Job], tasks: dict[str, TaskSpec], environment: dict[str, Any]
) -> None:
    """Write or renew the record; arms and seeds that the folder already knew stay in it."""
    path = folder / "experiment.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    arms = [job for job in jobs if job.arm in experiment.arms]
    record = {
        **{key: getattr(experiment, key) for key in ("name", "question", "source", "expected", "cost")},
        "baseline": experiment.baseline or next(iter(experiment.arms), None),
        "seeds": sorted({*before.get("seeds", []), *experiment.seeds}),
        "steps": max(experiment.steps, before.get("steps", 0)),
        "trunk_steps": experiment.trunk.steps,
        "arms": before.get("arms", {})
        | {job.arm: {"overrides": flatten(experiment.arms[job.arm]), "summary": summary(job)} for job in arms},
        "events": before.get("events", {})
        | {job.arm: fork(job) + events(job.settings.gram, job.start, job.stop) for job in arms},
        "chance": chance(tasks),
        "config": as_dict(experiment),
        "environment": environment,
        "notes": notes(experiment),
    }
    write_json(path, record)


def chance(tasks: dict[str, TaskSpec]) -> dict[str, float]:
    """What guessing would score, where all classified sets have the same number of classes."""
    counts = {len(t.test_set.classes) for t in tasks.values() if t.test_set.classes}
    return {"top1": 1 / counts.pop()} if len(counts) == 1 else {}


def fork(job: Job) -> list[dict[str, Any]]:
    """The fork as an event."""
    return [{"step": job.start, "kind": "fork"}] if job.parent else []


def summary(job: Job) -> str:
    """One phrase that tells what the arm does."""
    share = job.settings.data.homogeneous_share
    batches = f"; {share:.0%} of batches from one component" if share else ""
    return f"Gram {gram_words(job)}{batches}"


def notes(experiment: Experiment) -> list[str]:
    """What the reader must know before believing a curve."""
    found = []
    if len(experiment.seeds) == 1:
        found.append("One seed: intervals are over evaluation images only; differences between arms prove nothing.")
    if any(source.kind is SetKind.scenes for source in experiment.data.sources.values()):
        found.append(
            "Procedural images and a small model: this shows that the mechanics work, not what happens at scale."
        )
    return found
