"""Where the things of a job lie, how far its segment is, and all that speaks against going on with it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from common.disk import read_json
from common.errors import BadInput
from common.on_meta import on_meta
from common.ranks import joined
from common.records import Asked, CurvePoint, Status, read_lines, read_record, refuse_no_file
from common.schema import written
from common.steps import KINDS, files_by_step, folders_by_step, step_name
from common.unchanged import until_changed
from evals.backbones.addresses import load
from evals.backbones.exported import CARD, WEIGHTS
from harness import checkpoint, excluded, gram_teacher
from harness.config import identity
from harness.job import Job, holder
from harness.layers import flatten
from harness.model import build_backbone
from harness.split import refuse_split
from harness.standings import read_status
from harness.store import FOLDER, MARKS


def state_path(job: Job, step: int) -> Path:
    """Where the full training state after `step` steps lies."""
    return job.folder / "states" / f"{step_name(step)}.safetensors"


def step_folder(job: Job, step: int) -> Path:
    """Where the exported backbone after `step` steps lies: of the network that is evaluated."""
    return job.folder / step_name(step, KINDS[job.settings.evals.network])


def snapshot_folder(job: Job, step: int) -> Path:
    """Where the EMA backbone after `step` steps lies, when an arm anchors to it."""
    return job.folder / step_name(step, KINDS["teacher"])


def is_done(job: Job) -> bool:
    """Whether the segment went further than the job asks, or as far and the last step was exported: by its weights."""
    last = step_folder(job, job.stop)
    return reached(job) > job.stop or (last / CARD).exists() or any(last.glob(MARKS))


def reached(job: Job) -> int:
    """The last step whose weights lie in the folder, in a state or exported; else the segment's first."""
    exports = (step for kind in KINDS.values() for step in _holding(job, CARD, kind=kind))
    return max([job.root.start, *saved_steps(job), *exports])


def kept_steps(job: Job, *, holding: str) -> list[int]:
    """The steps whose folders hold a file of that name, the earliest first."""
    return _holding(job, holding, kind=KINDS[job.settings.evals.network])


def _holding(job: Job, name: str, *, kind: str) -> list[int]:
    return [step for step, folder in folders_by_step(job.folder, kind).items() if (folder / name).exists()]


def lost(jobs: Iterable[Job]) -> Iterator[str]:
    """What the folders of jobs have lost and the same command makes anew, a line each."""
    for job in {job.folder: job for job in jobs}.values():
        yield from read_lines(job.folder / "metrics.jsonl", CurvePoint).told()
        path, status = job.folder / "status.json", read_status(job.folder)
        if path.exists() and status == Status():
            yield f"{path} cannot be read: it is written anew"
        if is_done(job):
            continue
        if status.state == "done" and (status.steps or 0) > reached(job):
            yield (
                f"{path} says done at step {status.steps}, but the newest weights beside it are of step "
                f"{reached(job)}: trains on from step {saved_step(job)}"
            )
        elif reached(job) > job.root.start and not saved_steps(job):
            start = job.root.start
            yield f"{job.folder} kept no state of its {reached(job)} steps: trains them again from step {start}"
        elif (status.saved or 0) > newest_step(job):
            gone = state_path(job, status.saved or 0)
            yield f"{gone}, the newest state, is not there any more: trains on from step {saved_step(job)}"


def saved_step(job: Job) -> int:
    """The last step of the segment whose state is on disk and whole; its first when there is none."""
    return next(whole_steps(job), job.root.start)


def whole_steps(job: Job) -> Iterator[int]:
    """The steps whose states are on disk and whole, newest first; each is read to its last bit as it is asked for."""
    for path in checkpoint.latest_states(job.folder / "states"):
        with suppress(BadInput):
            yield checkpoint.verified_step(path, identity=job.identity)


def saved_steps(job: Job) -> list[int]:
    """The steps whose states are on disk, newest first."""
    return [*files_by_step(job.folder / "states", ".safetensors")][::-1]


def newest_step(job: Job) -> int:
    """The last step of the segment whose state is on disk, whole or not; its first when there is none."""
    return max([job.root.start, *saved_steps(job)])


def goes_on(jobs: Iterable[Job]) -> str:
    """From which steps the command goes on, should it end here."""
    steps = (f"{job.name} from step {newest_step(job)}" for job in jobs)
    return f"the same command goes on with {', '.join(steps)}"


# --- refusals, all before anything is written and without making weights


def check(job: Job) -> None:
    """Raises `BadInput`, and touches nothing, when the segment's folder, or the experiment's, cannot serve the job, or
    its batch cannot be split as is asked."""
    refuse_split(job.settings, joined().world)
    own = [job.folder / name for name in ("identity.json", "status.json", "metrics.jsonl")]
    for path in (*own, *(mark for kind in KINDS.values() for mark in job.folder.glob(f"{kind}_*/{MARKS}"))):
        refuse_no_file(path)
    refuse_other_settings(job)
    refuse_edited(job)
    excluded.refuse_shorter(job)
    if is_done(job):
        return
    refuse_unfit_gram_teacher(job)
    for path in checkpoint.latest_states(job.folder / "states"):
        with suppress(checkpoint.Damaged):  # one of other settings is refused
            checkpoint.verified_step(path, identity=job.identity)


def refuse_other_settings(job: Job) -> None:
    """Raises `BadInput` when the experiment has trained this arm and seed under other settings, or elsewhere."""
    view, run = job.view, job.view.parent
    if not os.path.lexists(view):
        return
    target = view.readlink() if view.is_symlink() else None
    if target is None or target.parent.name != FOLDER:
        raise BadInput(
            f"{view} is no link into {FOLDER}: an earlier version wrote it, or it was copied; nothing goes on with it "
            f"or brings it into the store; give this experiment another name=... or move {run} away (gramlab report "
            "still draws it)"
        )
    if target.name == job.identity:
        return
    if _recorded_segment(job) == job.identity:
        raise BadInput(
            f"{view} leads to the segment {target.name}, but {run / 'experiment.json'} names {job.identity}: somebody "
            "changed the link; remove it, and the same command makes it anew"
        )
    path = run / target / "identity.json"
    before = read_json(path, remedy="give this experiment another name=...") if path.exists() else None
    found = f"{path} is not there" if before is None else differences(before, job.science)
    raise BadInput(
        f"{view} holds a run of other settings ({found}): "
        f"set back what differs, give this experiment another name=... or move {run} away"
    )


def _recorded_segment(job: Job) -> str | None:
    """The segment that the experiment has trained this job in, as it says itself."""
    path = job.view.parent / "experiment.json"
    if not path.exists():
        return None
    jobs = read_record(path, Asked, remedy="restore it, or remove it where it is lost").get("jobs", {})
    return jobs[job.name]["segment"] if job.name in jobs else None


def refuse_edited(job: Job) -> None:
    """Raises `BadInput` when the segment's folder says that it is of other settings than those of its name."""
    path = job.folder / "identity.json"
    if not path.exists():
        return
    remedy = "remove it where no setting has changed, else restore it or move the folder away"
    before = read_json(path, remedy=remedy)
    if identity(before) != job.identity:
        raise BadInput(
            f"{path} was changed ({differences(before, job.science)}): want what was written; restore it or move "
            f"{job.folder} away"
        )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first settings in which two runs differ, or two studies, as `key was a, is b`."""
    old, new = flatten(before), flatten(json.loads(json.dumps(now)))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    named = {
        "data.sources": "the files of data.sources have changed",
        "crops.version": "another version of this program made its crops, whose pixels differ by rounding",
        "evals.identity": "the evaluations, by their protocols or their sets",
        "parent.identity": "what it forks from",
        "parent.step": f"it forked at step {old.get('parent.step')}, which `at: {old.get('parent.step')}` of the arm "
        f"keeps, and does now at {new.get('parent.step')}",
    }
    told = {key: f"{key} was {written(old.get(key))}, is {written(new.get(key))}" for key in keys[:3]}
    if (key := "schedule.end_step") in told and None not in (old.get(key), new.get(key)):
        told[key] += " (null is the last step): what ends there cannot be extended, constant schedules can"
    listed = "; ".join((told | named)[key] for key in told)
    return listed + (f"; {len(keys) - 3} more" if len(keys) > 3 else "")


def refuse_unfit_gram_teacher(job: Job) -> None:
    """Raises `BadInput` when the backbone given as Gram teacher is damaged, not finite, or none for this student."""
    folder = gram_teacher.given_folder(job.settings.gram)
    if folder is not None:
        try:
            given = _without_weights(folder)
            with on_meta():
                gram_teacher.refuse_unlike(given, job.settings.gram, build_backbone(job.settings.model))
        except BadInput as error:
            raise BadInput(f"gram.checkpoint={folder}: {error}") from error


@until_changed(CARD, WEIGHTS)
def _without_weights(folder: Path) -> nn.Module:
    """A backbone on the meta device, its weights read and checked once, for many arms may anchor to it.

    Raises:
        BadInput: as `load`.
    """
    return load(str(folder)).model.to("meta")


def gram_folder(job: Job) -> Path | None:
    """The backbone of a Gram teacher that exists before the job starts: given, or a snapshot on its path; else None."""
    if (given := gram_teacher.given_folder(job.settings.gram)) is not None:
        return given
    kept = [] if gram_teacher.source(job.settings.gram).chosen else [*earlier_folders(job).values()]
    return kept[0] if kept else None


def earlier_folders(job: Job) -> dict[int, Path]:
    """Where the EMA backbones lie that the job begins with, by their steps."""
    return {step: snapshot_folder(holder(job, step), step) for step in job.earlier}
