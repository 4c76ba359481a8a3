"""`experiment.json`: what an experiment asked, its arms and when things happen to them, for the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.disk import write_json
from common.records import Asked, AskedJob, read_record, refuse_no_file
from common.schema import assigned
from evals.datasets.catalogue import KINDS
from evals.one_task import TaskSpec
from evals.results.metrics import metric_of
from evals.tasks.methods import method_of
from harness import gram_teacher, phases
from harness.arms import WORDS, dotted
from harness.config import as_dict
from harness.cost import stretches
from harness.job import Job
from harness.job_folder import is_done, saved_steps
from harness.losses.table import LOSSES, titles
from harness.measures import headline
from harness.settings import Experiment

SUMMED = ("gram.", "data.homogeneous_share", "distillation.teacher", "steps")  # what `summary` or the table tells


def write_record(
    folder: Path,
    experiment: Experiment,
    jobs: Sequence[Job],
    tasks: dict[str, TaskSpec],
    environment: dict[str, Any],
    *,
    trained: Mapping[str, Sequence[str]],
    evaluations: str,
) -> None:
    """Write or renew the record; arms and seeds that the folder already knew stay in it.

    Args:
        trained: by arm which model on which images, a line for each fact.
        evaluations: their identity, by which outcomes are found.
    """
    before = recorded(folder)
    jobs = [furthest(job, before.get("jobs", {})) for job in jobs]
    arms = [job for job in jobs if job.arm in experiment.arms]
    seeds: list[int] = sorted({*before.get("seeds", []), *experiment.seeds})
    record = {
        **{key: getattr(experiment, key) for key in ("name", "question", "source", "expected", "cost")},
        "baseline": baseline(experiment, before),
        "seeds": seeds,
        "steps": max([*(job.stop for job in jobs), before.get("steps", 0)]),
        "trunk_steps": experiment.trunk.steps,
        "arms": before.get("arms", {}) | {job.arm: asked_arm(job, dotted(experiment.arms[job.arm])) for job in arms},
        "events": before.get("events", {})
        | {job.arm: fork(job) + gram_teacher.events(job.settings.gram, job.start, job.stop) for job in arms},
        "jobs": before.get("jobs", {}) | {job.name: asked_job(job) | found_at(job, before) for job in jobs},
        "compute": before.get("compute", {}) | {job.arm: compute(job) for job in jobs},
        "losses": losses([job.settings for job in jobs], before.get("losses", {})),
        "trained": before.get("trained", {}) | {arm: list(lines) for arm, lines in trained.items()},
        "chance": chance(tasks),
        "headline": headline(experiment.headline, tasks),
        "evaluations": evaluations,
        "config": as_dict(experiment),
        "environment": environment,
        "notes": notes(experiment, seeds),
    }
    write_json(folder / "experiment.json", record)


def recorded(folder: Path) -> Asked:
    """What the folder's record says so far. Raises `BadInput` when it is damaged."""
    path = folder / "experiment.json"
    refuse_no_file(path)
    remedy = "remove it, and the next run writes it anew, for the arms and seeds that it is given"
    return read_record(path, Asked, remedy=remedy) if path.exists() else {}


def baseline(experiment: Experiment, before: Asked) -> str | None:
    """The arm that the report sets the others beside; `before`: what the record says so far."""
    return experiment.baseline or before.get("baseline") or next(iter(experiment.arms), None)


def furthest(job: Job, before: Mapping[str, AskedJob]) -> Job:
    """The job as it was when most was asked of it: fewer steps, and fewer arms that fork from it, leave it as it is."""
    if (known := before.get(job.name)) is None:
        return job
    kept = {key: tuple(sorted({*getattr(job, key), *known.get(key, [])})) for key in ("forks", "snapshots")}
    return replace(job, stop=max(job.stop, known["stop"]), **kept)


def losses(found: Sequence[Experiment], before: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What each term is called; one that is off in all of these settings is called as it was `before`."""
    named = titles(found, before={term: one["title"] for term, one in before.items() if "title" in one})
    return {term: {"title": named[term], "anchored": one.anchored} for one in LOSSES.values() for term in one.titles}


def asked_arm(job: Job, overrides: dict[str, Any]) -> dict[str, Any]:
    """What the arm sets, and a phrase that tells what it does; settings that `summary` has no words for as they are."""
    others = {key: value for key, value in overrides.items() if key not in WORDS and not key.startswith(SUMMED)}
    return {"overrides": overrides, "summary": "; ".join(filter(None, [summary(job), assigned(others)]))}


def asked_job(job: Job) -> AskedJob:
    """Which part of which segment the job is, what it forks from and whom it learns from."""
    parent, taught_by = (one.name if one is not None else None for one in (job.parent, job.taught_by))
    return {
        "segment": job.identity,
        "start": job.start,
        "stop": job.stop,
        "parent": parent,
        "taught_by": taught_by,
        "forks": list(job.forks),
        "snapshots": list(job.snapshots),
    }


def found_at(job: Job, before: Asked) -> dict[str, Any]:
    """Up to which step the job lay in the store when the experiment first began; {} where an earlier version began it.

    A state is taken at its name: whether it is whole is found out when it is read.
    """
    known = before.get("jobs", {}).get(job.name)
    if known is not None:
        return {"found": known["found"]} if "found" in known else {}
    at = job.stop if is_done(job) else max(saved_steps(job), default=job.start)
    return {"found": min(max(at, job.start), job.stop)}


def chance(tasks: dict[str, TaskSpec]) -> dict[str, float]:
    """What guessing scores, by data set and metric as `photos/top1`: one in as many classes as the set has."""
    found: dict[str, float] = {}
    for task in tasks.values():
        classes = len(task.test_set.classes)
        for name in method_of(task.protocol).file.metrics(task.protocol):
            if classes and (guesses := metric_of(name).guesses):
                found[f"{task.test_set.name}/{name}"] = min(guesses / classes, 1.0)
    return found


def fork(job: Job) -> list[dict[str, Any]]:
    """The fork as an event."""
    return [{"step": job.start, "kind": "fork"}] if job.parent else []


def compute(job: Job) -> list[dict[str, Any]]:
    """Operations of a training step, counted, from the step on at which they are so many: Gram anchoring adds some, a
    frozen backbone takes some away."""
    found = stretches(job.settings, job.start, job.stop, origin=job.origin, teacher=job.teacher)
    return [{"from": one.first, "flops": one.flops} for one in found]


def summary(job: Job) -> str:
    """One phrase that tells what the arm does."""
    share = job.settings.data.homogeneous_share
    batches = f"; {share:.0%} of batches from one component" if share else ""
    anew = "" if job.inherit == "all" else f"; begins with {phases.inherited(job)}"
    return f"{taught(job.settings)}{gram_teacher.phrase(job.settings.gram, job.settings.crops)}{batches}{anew}"


def taught(settings: Experiment) -> str:
    """The beginning of a phrase that tells by which frozen teacher; empty where there is none."""
    teacher = settings.distillation.teacher
    return "" if teacher is None else f"learns from {teacher}; "


def notes(experiment: Experiment, seeds: Sequence[int]) -> list[str]:
    """What the reader must know before believing a curve; `seeds` are all that the folder holds."""
    found = []
    if len(seeds) == 1:
        found.append("One seed: intervals are over evaluation images only; differences between arms prove nothing.")
    if any(KINDS[source.kind].rendered for source in experiment.data.sources.values()):
        found.append(
            "Procedural images and a small model: this shows that the mechanics work, not what happens at scale."
        )
    return found
