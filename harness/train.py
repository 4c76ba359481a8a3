"""The loop of one job: step, log, checkpoint, evaluate; a run that was cut off goes on where its last state is."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path

import torch
from timm.models.eva import Eva
from torch import Tensor
from tqdm import tqdm

from evals.backbone import export, load
from evals.errors import BadInput
from harness import checkpoint
from harness.config import flatten, identity
from harness.data.batches import Batch, Batches, stream
from harness.data.pool import Pool
from harness.graph import Job
from harness.metrics import Curves, peak_memory_gib, write_json
from harness.model import Network, backbone_args, initialise, patch_size
from harness.optimizer import build_optimizer
from harness.schedules import at, needs_gram_crops
from harness.settings import Experiment, GramTeacher
from harness.settings import Network as Which
from harness.step import NonFinite, State, train_step

log = logging.getLogger("gramlab")
Evaluate = Callable[[Job, int, Path], dict[str, float]]


def train(job: Job, pool: Pool, evaluate: Evaluate, *, device: torch.device) -> None:
    """Bring `job` to its last step. Raises `BadInput` when its folder holds another run, `NonFinite` on a bad loss."""
    claim_folder(job)
    if is_done(job):
        log.info("%s: done at step %d, skipped", job.name, job.stop)
        revisit(job, evaluate)
        return
    state = resume(job, device)
    if state.step > job.stop:
        raise BadInput(f"{job.folder} is at step {state.step}: want steps={state.step} or more; a run is not cut back")
    curves = Curves(job.folder, step=state.step)
    try:
        run_steps(job, state, pool, evaluate, curves)
    except (NonFinite, KeyboardInterrupt) as error:
        kind = "failed" if isinstance(error, NonFinite) else "interrupted"
        write_status(job, state, curves, state_name=kind, error=str(error))
        raise
    finally:
        curves.close()
    write_status(job, state, curves, state_name="done")


def claim_folder(job: Job) -> None:
    """Bind the folder to the job's settings. Raises as `refuse_other_settings`."""
    refuse_other_settings(job)
    if not (job.folder / "identity.json").exists():
        write_json(job.folder / "identity.json", job.science)


def refuse_other_settings(job: Job) -> None:
    """Raises `BadInput`, and touches nothing, when the job's folder holds a run of other settings."""
    path = job.folder / "identity.json"
    before = json.loads(path.read_text()) if path.exists() else job.science
    if identity(before) != job.identity:
        raise BadInput(
            f"{job.folder} holds a run of other settings ({differences(before, job.science)}): "
            "give this experiment another name=... or move the folder away"
        )


def differences(before: dict, now: dict) -> str:
    """The first settings in which two runs differ, as `key was a, is b`."""
    old, new = flatten(before), flatten(json.loads(json.dumps(now)))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    listed = "; ".join(f"{key} was {old.get(key)}, is {new.get(key)}" for key in keys[:3])
    return listed + (f"; {len(keys) - 3} more" if len(keys) > 3 else "")


def revisit(job: Job, evaluate: Evaluate) -> None:
    """Evaluate the kept steps of a finished job again where the evaluations have changed since."""
    for folder in sorted(job.folder.glob("step_*/evaluated.json")):
        evaluate(job, int(folder.parent.name.removeprefix("step_")), folder.parent)


def is_done(job: Job) -> bool:
    """Whether the job reached its last step, or one beyond it, when it was asked for more."""
    path = job.folder / "status.json"
    status = json.loads(path.read_text()) if path.exists() else {}
    return status.get("state") == "done" and status.get("steps", 0) >= job.stop


def saved_step(job: Job) -> int:
    """The last step whose state is on disk; the job's first when there is none."""
    names = [path.stem.removeprefix("step_") for path in checkpoint.latest_states(job.folder / "states")]
    return int(names[0]) if names else job.start


def fresh_state(settings: Experiment, seed: int, device: torch.device) -> State:
    """Step 0: a random student, a teacher equal to it, an optimizer without moments."""
    student = Network(settings)
    initialise(student, torch.Generator().manual_seed(seed))
    teacher = deepcopy(student).requires_grad_(False).eval()
    student, teacher = student.to(device).train(), teacher.to(device)
    return State(0, student, teacher, build_optimizer(student, settings.optimizer))


def resume(job: Job, device: torch.device) -> State:
    """The newest readable state of the job, else the end of its parent, else step 0, from weights when given."""
    saved = checkpoint.latest_states(job.folder / "states")
    for path in saved:
        state = fresh_state(job.settings, job.seed, device)
        state.anchor = first_anchor(job, state, device)  # for its architecture
        try:
            checkpoint.load_state(state, path, identity=job.identity)
        except BadInput as error:
            log.warning("%s; trying the one before", error)
            continue
        log.info("%s: goes on from step %d", job.name, state.step)
        return state
    if saved:
        raise BadInput(f"{job.folder}: none of its {len(saved)} saved states can be read; move it away to start again")
    state = fresh_state(job.settings, job.seed, device)
    if job.parent is not None:
        path = state_path(job.parent, job.parent.stop)
        checkpoint.load_state(state, path, identity=job.parent.identity)
    elif job.settings.trunk.checkpoint is not None:
        checkpoint.load_weights(state, Path(job.settings.trunk.checkpoint))
    state.anchor = first_anchor(job, state, device)
    return state


def first_anchor(job: Job, state: State, device: torch.device) -> Eva | None:
    """A Gram teacher that exists before the job starts: a given checkpoint or a snapshot of the trunk; else None."""
    gram = job.settings.gram
    if gram.weight == 0 or gram.teacher is GramTeacher.ema:
        return None
    if gram.teacher is GramTeacher.checkpoint:
        folder = Path(str(gram.checkpoint))
    elif job.parent is not None and gram.snapshot_step < job.start:
        folder = snapshot_folder(job.parent, gram.snapshot_step)
        if not folder.exists():
            raise BadInput(
                f"{job.name}: gram.teacher_step={gram.snapshot_step}: {job.parent.folder} was trained before an arm "
                "asked for that step and kept no EMA of it; move that folder away, or anchor to the fork"
            )
    else:
        return None
    anchor = load(str(folder)).model
    if not isinstance(anchor, Eva):
        raise BadInput(f"{folder}: a Gram teacher of {type(anchor).__name__}: want a ViT of the DINOv3 family")
    own = state.teacher.backbone.state_dict()
    if gram.update_every is not None and {k: v.shape for k, v in anchor.state_dict().items()} != {
        k: v.shape for k, v in own.items()
    }:
        raise BadInput(
            f"{folder}: a Gram teacher of another architecture: it cannot be renewed from the student's EMA; "
            "set gram.update_every=null"
        )
    if patch_size(anchor) != patch_size(state.teacher.backbone):
        raise BadInput(
            f"{folder}: a Gram teacher of patch {patch_size(anchor)}: "
            f"want the student's {patch_size(state.teacher.backbone)}"
        )
    return anchor.to(device).requires_grad_(False).eval()


def run_steps(job: Job, state: State, pool: Pool, evaluate: Evaluate, curves: Curves) -> None:
    """From the state's step to the job's last."""
    settings = job.settings
    device = next(state.student.parameters()).device
    batches = Batches(
        pool,
        data=settings.data,
        crops=settings.crops,
        ibot=settings.ibot,
        gram=settings.gram,
        seed=job.seed,
        patch=patch_size(state.student.backbone),
        needs_gram=partial(needs_gram_crops, settings.gram),
    )
    watch = Stopwatch(curves.seconds_logged)
    mark(job, state, evaluate, curves, watch)
    bar = tqdm(total=job.stop, initial=state.step, desc=job.name, unit="step", disable=None, dynamic_ncols=True)
    with bar:
        for batch in stream(batches, state.step, job.stop, workers=settings.runtime.workers):
            terms = train_step(state, to_device(batch, device), at(settings, state.step), settings, seed=job.seed)
            bar.update()
            if state.step % settings.runtime.log_every == 0 or state.step == job.stop:
                row = curve_row(terms, state, settings, watch)
                curves.add(row)
                bar.set_postfix_str(" ".join(f"{k} {row[k]:.3f}" for k in ("loss", "gram") if k in row))
            mark(job, state, evaluate, curves, watch)


def mark(job: Job, state: State, evaluate: Evaluate, curves: Curves, watch: Stopwatch) -> None:
    """After a step: save the state and evaluate where one of them is due. Time spent here is not training time."""
    settings, step, last = job.settings, state.step, state.step == job.stop
    evaluates = (step % settings.evals.every == 0 or last) and (step > job.start or job.parent is None)
    with watch.paused():
        if step > job.start and (step % settings.runtime.checkpoint_every == 0 or evaluates or last):
            checkpoint.save_state(state, state_path(job, step), identity=job.identity)
            checkpoint.prune_states(job.folder / "states", keep=2)
            write_status(job, state, curves, state_name="running")
        if step in job.snapshots and not (snapshot_folder(job, step) / "backbone.json").exists():
            export_backbone(job, state, snapshot_folder(job, step), network=state.teacher)
        if evaluates:
            folder = step_folder(job, step)
            if not (folder / "backbone.json").exists():
                network = state.teacher if settings.evals.network is Which.teacher else state.student
                export_backbone(job, state, folder, network=network)
            curves.add_evaluation(step, evaluate(job, step, folder))


def export_backbone(job: Job, state: State, folder: Path, *, network: Network) -> None:
    """Write a network's backbone where evaluations, Gram teachers and users find it."""
    model = job.settings.model
    extra = {"step": state.step, "arm": job.arm, "seed": job.seed, "identity": job.identity}
    export(network.backbone, folder, timm_name=model.name, timm_args=backbone_args(model), extra=extra)


class Stopwatch:
    """Seconds of training, evaluations and checkpoints left out, going on from an earlier count."""

    def __init__(self, seconds: float):
        self.before, self.started = seconds, time.perf_counter()

    def seconds(self) -> float:
        """Seconds so far."""
        return self.before + time.perf_counter() - self.started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        self.before = self.seconds()
        try:
            yield
        finally:
            self.started = time.perf_counter()


def curve_row(terms: dict[str, Tensor], state: State, settings: Experiment, watch: Stopwatch) -> dict[str, float]:
    """A row of the training curve after a step."""
    done = at(settings, state.step - 1)
    return {
        "step": state.step,
        "images": state.step * settings.data.batch_size,
        "seconds": round(watch.seconds(), 2),
        **{name: float(value) for name, value in terms.items()},
        "lr": done.lr,
        "temperature": done.temperature,
        "gram_weight": done.gram_weight,
    }


def write_status(job: Job, state: State, curves: Curves, *, state_name: str, error: str | None = None) -> None:
    """Replace `status.json`: how far the job is and how fast it went."""
    seconds = curves.seconds_logged
    images = (curves.steps_logged - job.start) * job.settings.data.batch_size
    status = {
        "state": state_name,
        "step": state.step,
        "steps": job.stop,
        "seconds": round(seconds, 1),
        "images_per_second": round(images / seconds, 2) if seconds > 0 else None,
        "peak_memory_gib": round(peak_memory_gib(next(state.student.parameters()).device), 2),
    }
    write_json(job.folder / "status.json", status | ({"error": error} if error else {}))


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its images on `device`; masks stay on the CPU, where their positions are counted."""
    images = {
        name: tensor.to(device, non_blocking=True)
        for name in ("globals", "locals", "gram")
        if (tensor := getattr(batch, name)) is not None
    }
    return batch._replace(**images)


def state_path(job: Job, step: int) -> Path:
    """Where the full training state after `step` steps lies."""
    return job.folder / "states" / f"step_{step:06d}.safetensors"


def step_folder(job: Job, step: int) -> Path:
    """Where the exported backbone after `step` steps lies: of the network that is evaluated."""
    return job.folder / f"step_{step:06d}"


def snapshot_folder(job: Job, step: int) -> Path:
    """Where the EMA backbone after `step` steps lies, when an arm anchors to it."""
    return job.folder / f"ema_{step:06d}"
