"""A job's folder: where things lie in it, how far it is, and all that speaks against going on with it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from common.disk import read_json
from common.errors import BadInput
from common.records import CurvePoint, Status, read_lines, read_record, refuse_no_file
from common.steps import files_by_step, folders_by_step, step_name
from common.unchanged import until_changed
from evals.backbones.addresses import load
from evals.backbones.exported import CARD, WEIGHTS, told
from harness import checkpoint, excluded, gram_teacher
from harness.config import flatten, identity
from harness.graph import Job


def state_path(job: Job, step: int) -> Path:
    """Where the full training state after `step` steps lies."""
    return job.folder / "states" / f"{step_name(step)}.safetensors"


def step_folder(job: Job, step: int) -> Path:
    """Where the exported backbone after `step` steps lies: of the network that is evaluated."""
    return job.folder / step_name(step)


def snapshot_folder(job: Job, step: int) -> Path:
    """Where the EMA backbone after `step` steps lies, when an arm anchors to it."""
    return job.folder / step_name(step, "ema")


def is_done(job: Job) -> bool:
    """Whether the job reached its last step, or one beyond it, when it was asked for more: by word and by weights."""
    return says_done(job) and reached(job) >= job.stop


def says_done(job: Job) -> bool:
    """Whether `status.json` says that the job reached its last step."""
    status = read_status(job)
    return status.state == "done" and (status.steps or 0) >= job.stop


def reached(job: Job) -> int:
    """The last step whose weights lie in the folder, in a state or exported; the job's first when there are none."""
    return max([job.start, *saved_steps(job), *kept_steps(job, holding=CARD)])


def kept_steps(job: Job, *, holding: str) -> list[int]:
    """The steps whose folders hold a file of that name, the earliest first."""
    return [step for step, folder in folders_by_step(job.folder).items() if (folder / holding).exists()]


def read_status(job: Job) -> Status:
    """The job's `status.json`; `Status()` where there is none or a damaged one, since training writes it anew."""
    path = job.folder / "status.json"
    try:
        return read_record(path, Status, remedy="it is written anew") if path.exists() else Status()
    except BadInput:
        return Status()


def lost(jobs: Iterable[Job]) -> Iterator[str]:
    """What the folders of jobs have lost and the same command makes anew, a line each."""
    for job in jobs:
        yield from read_lines(job.folder / "metrics.jsonl", CurvePoint).told()
        path, status = job.folder / "status.json", read_status(job)
        if path.exists() and status == Status():
            yield f"{path} cannot be read: it is written anew"
        if is_done(job):
            continue
        if says_done(job):
            yield (
                f"{path} says done at step {status.steps}, but the newest weights beside it are of step "
                f"{reached(job)}: trains on from step {saved_step(job)}"
            )
        elif reached(job) > job.start and not saved_steps(job):
            yield f"{job.folder} kept no state of its {reached(job)} steps: trains them again from step {job.start}"


def saved_step(job: Job) -> int:
    """The last step whose state is on disk and whole; the job's first when there is none."""
    return next(whole_steps(job), job.start)


def whole_steps(job: Job) -> Iterator[int]:
    """The steps whose states are on disk and whole, newest first; each is read to its last bit as it is asked for."""
    for path in checkpoint.latest_states(job.folder / "states"):
        with suppress(BadInput):
            yield checkpoint.verified_step(path, identity=job.identity)


def saved_steps(job: Job) -> list[int]:
    """The steps whose states are on disk, newest first."""
    return [*files_by_step(job.folder / "states", ".safetensors")][::-1]


# --- refusals, all before anything is written and without building a model


def check(job: Job) -> None:
    """Raises `BadInput`, and touches nothing, when the job's folder, or its trunk's, cannot serve the job."""
    own = [job.folder / name for name in ("identity.json", "status.json", "metrics.jsonl")]
    for path in (*own, *job.folder.glob("step_*/evaluated.json")):
        refuse_no_file(path)
    refuse_other_settings(job)
    excluded.refuse_shorter(job)
    refuse_other_network(job)
    if is_done(job):
        return
    refuse_unfit_gram_teacher(job)
    saved = checkpoint.latest_states(job.folder / "states")
    if saved:
        refuse_unusable_states(job, saved)
    elif job.parent is not None and is_done(job.parent):
        refuse_lost_fork(job, job.parent)
    if job.parent is not None and is_done(job.parent):
        gram_folder(job)


def refuse_other_settings(job: Job) -> None:
    """Raises `BadInput` when the job's folder holds a run of other settings."""
    path = job.folder / "identity.json"
    if path.exists():
        remedy = "remove it where no setting has changed, else restore it or move the folder away"
        before = read_json(path, remedy=remedy)
        different = differences(before, job.science) if identity(before) != job.identity else ""
    else:
        different = next(_other_hashes(job), "")
    if different:
        raise BadInput(
            f"{job.folder} holds a run of other settings ({different}): "
            "set back what differs, give this experiment another name=... or move the folder away"
        )


def _other_hashes(job: Job) -> Iterator[str]:
    """Hashes of other settings that the exported backbones bear: all that tells once `identity.json` is lost."""
    for step in kept_steps(job, holding=CARD):
        path = step_folder(job, step) / CARD
        if (found := told(path.parent).get("identity", job.identity)) != job.identity:
            yield f"hash {found} in {path}, now {job.identity}; its identity.json is lost"


def differences(before: dict, now: dict) -> str:
    """The first settings in which two runs differ, as `key was a, is b`."""
    old, new = flatten(before), flatten(json.loads(json.dumps(now)))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    listed = "; ".join(
        "the files of data.sources have changed"
        if key == "data.sources"
        else f"{key} was {old.get(key)}, is {new.get(key)}"
        for key in keys[:3]
    )
    return listed + (f"; {len(keys) - 3} more" if len(keys) > 3 else "")


def refuse_other_network(job: Job) -> None:
    """Raises `BadInput` when the job's evaluated steps hold the other one of student and teacher."""
    wanted = job.settings.evals.network
    for folder in folders_by_step(job.folder).values():
        found = told(folder).get("network", wanted)
        if found != wanted:
            raise BadInput(
                f"{folder} holds the {found}, but evals.network={wanted}: a run is evaluated on one network; "
                f"set evals.network={found} or give this experiment another name=..."
            )


def refuse_unusable_states(job: Job, saved: list[Path]) -> None:
    """Raises `BadInput` for a state of other settings, or where the newest that is whole lies beyond the job's end.

    Damaged ones are passed over: where none is whole, the job trains again from its start.
    """
    for path in saved:
        with suppress(checkpoint.Damaged):
            if (step := checkpoint.verified_step(path, identity=job.identity)) > job.stop:
                raise BadInput(f"{job.folder} is at step {step}: want steps={step} or more; a run is not cut back")
            return


def refuse_lost_fork(job: Job, parent: Job) -> None:
    """Raises `BadInput` when a trunk that went further no longer has the state that the job forks from.

    One that ended there makes it again (`harness/kept.py`).
    """
    if state_path(parent, job.start).exists() or read_status(parent).steps == job.start:
        return
    kept = sorted(saved_steps(parent))
    listed = f"the states of steps {', '.join(map(str, kept))}" if kept else "no state"
    choice = f"set trunk.steps={kept[-1]}, or " if kept else ""
    raise BadInput(
        f"{job.name} forks at trunk.steps={job.start}, but {parent.folder} kept {listed}: {choice}"
        "give this experiment another name=... to train such a trunk"
    )


def refuse_unfit_gram_teacher(job: Job) -> None:
    """Raises `BadInput` when the backbone given as Gram teacher is damaged, or its weights are not finite."""
    folder = gram_teacher.given_folder(job.settings.gram)
    if folder is not None:
        try:
            _load_once(folder)
        except BadInput as error:
            raise BadInput(f"gram.checkpoint={folder}: {error}") from error


@until_changed(CARD, WEIGHTS)
def _load_once(folder: Path) -> None:
    """Raises `BadInput` as `load`; many arms may anchor to one backbone."""
    load(str(folder))


def gram_folder(job: Job) -> Path | None:
    """The backbone of a Gram teacher that exists before the job starts: given, or a snapshot of the trunk; else None.

    Raises `BadInput` for a snapshot that the trunk did not keep.
    """
    gram = job.settings.gram
    if (given := gram_teacher.given_folder(gram)) is not None:
        return given
    step = gram_teacher.early_step(gram, job.start)
    if job.parent is None or step is None:
        return None
    folder = snapshot_folder(job.parent, step)
    if not folder.exists():
        raise BadInput(
            f"{job.name}: gram.teacher_step={step}: {job.parent.folder} was trained before an arm asked for that step "
            "and kept no EMA of it; move that folder away, or anchor to the fork"
        )
    return folder
