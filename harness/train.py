"""The loop of one job: step, log, checkpoint, evaluate; a run that was cut off goes on where its last state is."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

from common.disk import write_json, write_text
from common.errors import BadInput, first_line, found
from common.interrupts import Leaving, leave_if_asked
from common.machine import reset_peak_memory
from common.progress import Bar
from common.unwritable import staying
from evals.backbones import exported
from harness import excluded, gram_teacher, store, together
from harness.backbones import released
from harness.bad_steps import Stepper
from harness.collapse import Watchman
from harness.components import Tally
from harness.curves import Curves, Stopwatch
from harness.data.batches import Batches
from harness.data.pool import Pool
from harness.data.sizes import most_seen, sides
from harness.dense_watch import Watch
from harness.eval_settings import Role
from harness.job import Job
from harness.job_folder import (
    check,
    earlier_folders,
    goes_on,
    is_done,
    snapshot_folder,
    state_path,
    step_folder,
)
from harness.job_status import renew_status, write_status
from harness.lockstep import Feed, batches_of, scheduled, settled
from harness.losses.table import LOSSES
from harness.model import backbone_args, sizes_of
from harness.schedules import ends
from harness.skipped import Skips
from harness.state import State
from harness.step import NonFinite
from harness.together import begun

log = logging.getLogger("gramlab")
Evaluate = Callable[[Job, int, Path], dict[str, float]]
DECIDED = {"gram_start": "the Gram loss begins", "gram_update": "the Gram teacher is renewed"}
RECORD = "dense.jsonl"  # what was measured without labels, and decided by it; made of the state, so it may be lost
ANCHORED = tuple(term for loss in LOSSES.values() if loss.anchored for term in loss.titles)  # their factors move


def train(job: Job, pool: Pool, evaluate: Evaluate, *, device: torch.device) -> None:
    """Bring `job` to its last step; whatever ends it early is noted in its segment's status.

    Raises `BadInput` for a folder or settings that cannot serve, before the folder is touched; `NonFinite` for a loss,
    a gradient or evaluated features that are not finite.
    """
    if failed := train_together([job], pool, evaluate, device=device):
        raise failed[job.name]


def train_together(
    jobs: Sequence[Job], pool: Pool, evaluate: Evaluate, *, device: torch.device
) -> dict[str, NonFinite]:
    """Bring jobs to their last steps, always the one next that is furthest behind: those that stand at one step take it
    on the same batch, one after the other. Raises as `train`, but returns what was not finite, by the jobs' names.
    """
    feed = Feed(pool, device=device)
    runs = {job.name: stepwise(job, feed, evaluate) for job in jobs}
    at, failed, leaving = dict.fromkeys(runs, -1), dict[str, NonFinite](), None
    try:
        while runs:
            name = min(runs, key=at.__getitem__)
            try:
                at[name] = next(runs[name])
                continue
            except StopIteration:
                pass
            except NonFinite as error:
                error.__cause__ = error.__context__ = None  # they and the traceback hold all that the job had
                failed[name] = error.with_traceback(None)
            except Leaving as error:  # so will the others, once each has saved its state
                for note in getattr(leaving, "__notes__", []):
                    error.add_note(note)
                leaving = error
            del runs[name]
    finally:
        for run in runs.values():
            run.close()
        feed.close()
    if leaving is not None:
        raise leaving
    return failed


def stepwise(job: Job, feed: Feed, evaluate: Evaluate) -> Generator[int]:
    """Train a job as `train` does, pausing between its steps with the number of those that are taken."""
    check(job)
    if is_done(job):
        log.info("%s: done at step %d, skipped", job.name, job.stop)
        claim_folder(job)
        revisit(job, evaluate)
        renew_status(job, feed.device)
        return
    reset_peak_memory(feed.device)
    state = begun(job, feed.device, anew=feed.begins)
    batches = batches_of(job, feed.pool, state)
    claim_folder(job)
    excluded.note(job, feed.pool, step=state.step)
    feed.skips(job)
    with staying(job.folder):
        yield from finish(job, state, batches, feed, evaluate)


def finish(job: Job, state: State, batches: Batches, feed: Feed, evaluate: Evaluate) -> Generator[int]:
    """All that is left of the job, its status always on disk; what ends it early says where it goes on."""
    curves = Curves(job.folder, step=state.step, watch=Watchman(job.settings, origin=job.origin))
    try:
        revisit(job, evaluate)
        yield from run_steps(job, state, batches, feed, evaluate, curves)
    except BaseException as error:
        # closed: what it was trained with has been ended
        kind = "interrupted" if isinstance(error, KeyboardInterrupt | GeneratorExit) else "failed"
        with suppress(OSError):  # a full disk, say, which is then the error itself
            write_status(job, state, curves, state_name=kind, error=first_line(error, most=1000))
        error.add_note(goes_on([job]))
        raise
    finally:
        curves.close()
    write_status(job, state, curves, state_name="done")


def claim_folder(job: Job) -> None:
    """Say what the segment is, keep what arms will ask of it, and link the experiment to it."""
    if not (job.folder / "identity.json").exists():
        write_json(job.folder / "identity.json", job.science)
    store.pin(job.folder / "states", job.forks)
    store.link(job.view, job.folder)


def revisit(job: Job, evaluate: Evaluate) -> None:
    """Evaluate the kept steps of a job again, where the evaluations have changed since or what they left is damaged.

    What the segment passed without being evaluated, since nobody had asked for it, stays so.
    """
    for step in job.evaluations:
        folder = step_folder(job, step)
        if not (folder / exported.CARD).exists() and not any(folder.glob(store.MARKS)):
            continue
        try:
            evaluate(job, step, folder)
        except BadInput as error:
            if not exported.fault(folder):
                raise
            log.warning("%s step %d: not evaluated again (%s)", job.name, step, found(error))


def look_of(job: Job, pool: Pool) -> Watch:
    """What looks at the dense features of the job's EMA teacher. Raises `BadInput` for too few images or patches."""
    own, root, patch = job.settings, job.root, sizes_of(job.settings.model).patch
    chosen = gram_teacher.source(own.gram).chosen and not root.keeps_gram_teacher
    return Watch(
        own.gram,
        pool,
        size=most_seen(sides(own.crops)),
        patch=patch,
        stop=own.steps,
        start=root.start,
        learnt=own.first_trained,
        earlier=earlier_folders(root) if chosen else None,
    )


def observe(job: Job, state: State, look: Watch, skips: Skips) -> None:
    """Measure where that is due before the next step, and say what was decided by it."""
    measured = look(state.seen, state.teacher.backbone, state.step)
    skips.note(state.step)
    if measured:
        rows = [*look.told(state.seen, state.step)]
        write_text(job.folder / RECORD, "".join(f"{json.dumps(row)}\n" for row in rows))
        for row in rows:
            if row["step"] == state.step and row["kind"] in DECIDED:
                whose = f"; teacher: EMA of step {row['teacher']}" if "teacher" in row else ""
                log.info("%s step %d: %s%s", job.name, state.step, DECIDED[row["kind"]], whose)


def run_steps(
    job: Job, state: State, batches: Batches, feed: Feed, evaluate: Evaluate, curves: Curves
) -> Generator[int]:
    """From the state's step to the job's last, with a pause before each; what passes meanwhile is not its time."""
    settings = job.settings
    # Since the last row; a resumed run looks up what it took before it was cut off
    tally = Tally(batches.pool, settings.data)
    for step in range(max(curves.steps_logged, job.root.start), state.step):
        tally.count(batches.composition(step))
    watch = Stopwatch(curves.seconds_logged)
    look, take = look_of(job, batches.pool), Stepper(job, batches.pool)
    observe(job, state, look, feed.skips(job))
    mark(job, state, evaluate, curves, watch)
    # Its curve is its log
    shown = {"of": job.name, "desc": job.name, "unit": "step", "lines": False, "dynamic_ncols": True}
    bar = Bar(total=job.stop, initial=state.step, **shown)
    with bar:
        while state.step < job.stop:
            with watch.paused():
                yield state.step
                leave(job, state, curves)
            asked = tally if is_logged(job, state.step + 1) else None
            try:
                with watch.waiting():
                    batch, placed = feed(job, state, tallied=asked is not None, taken=not take.passes_over(state.step))
            except Leaving:  # asked while it waited for the batch
                leave(job, state, curves)
                raise
            now, own = scheduled(job, state, state.step), settled(job, state)
            terms = take(state, batch, placed, now, own, tally=asked, ranks=feed.ranks)
            observe(job, state, look, feed.skips(job))
            tally.count(batch)
            bar.update()
            if is_logged(job, state.step):
                row = curve_row(terms, state, job, watch) | tally.row()
                for said in curves.add(row):
                    log.warning("%s %s", job.name, said)
                bar.set_postfix_str(" ".join(f"{k} {row[k]:.3f}" for k in ("loss", *ANCHORED) if k in row))
            mark(job, state, evaluate, curves, watch)
    if watch.waited:
        log.info("%s: batches took %.0f %% of its time", job.name, 100 * watch.share_waited())


def is_logged(job: Job, step: int) -> bool:
    """Whether the curve has a row after this step."""
    return step % job.settings.runtime.log_every == 0 or step == job.stop


def mark(job: Job, state: State, evaluate: Evaluate, curves: Curves, watch: Stopwatch) -> None:
    """After a step: save the state and evaluate where one of them is due. Time spent here is not training time."""
    settings, step, evaluates = job.settings, state.step, job.is_evaluated(state.step)
    states = job.folder / "states"
    kept = evaluates or step % settings.runtime.checkpoint_every == 0 or store.is_pinned(states, step)
    with watch.paused():
        leave(job, state, curves)  # what is due at this step is done by whoever goes on with it
        if kept:
            save(job, state, curves)
        if step in job.snapshots and exported.fault(snapshot_folder(job, step)):
            export_backbone(job, state, snapshot_folder(job, step), which="teacher")
        if evaluates:
            folder = step_folder(job, step)
            if exported.fault(folder):
                export_backbone(job, state, folder, which=settings.evals.network)
            curves.add_evaluation(step, evaluate(job, step, folder))


def leave(job: Job, state: State, curves: Curves) -> None:
    """Where this process was asked to: leave with the state saved, unless the last step is taken and needs its end."""
    if state.step < job.stop:
        leave_if_asked(lambda: save(job, state, curves))


def save(job: Job, state: State, curves: Curves) -> None:
    """Have the state on disk, unless it is the one that the segment begins with, and let others go."""
    if state.step > job.root.start and state.on_disk != state.step:
        together.save(job, state, state_path(job, state.step))
    store.prune(job.folder / "states", newest=state.step)
    if state.step > job.root.start:
        write_status(job, state, curves, state_name="running")


def export_backbone(job: Job, state: State, folder: Path, *, which: Role, keep_results: bool = False) -> None:
    """Write a network's backbone where evaluations, Gram teachers and users find it; see `exported.export`."""
    model = job.settings.model
    extra = {"step": state.step, "seed": job.seed, "identity": job.identity, "network": which}
    exported.export(
        together.backbone_of(job, state, which),
        folder,
        timm_name=str(released.settled(model).name),
        timm_args=backbone_args(model),
        extra=extra,
        keep_results=keep_results,
    )


def curve_row(terms: dict[str, Tensor], state: State, job: Job, watch: Stopwatch) -> dict[str, float]:
    """A row of the training curve after a step; of what may be constant, that which is not."""
    done = scheduled(job, state, state.step - 1)
    moving = {"optimizer.weight_decay_end": "weight_decay", "teacher.momentum_end": "momentum"}
    return {
        "step": state.step,
        "images": job.images(state.step),
        "seconds": round(watch.seconds(), 2),
        **{name: float(value) for name, value in terms.items()},
        "lr": done.lr,
        "temperature": done.temperature,
        **{name: getattr(done, name) for key, name in moving.items() if key in ends(job.settings)},
        **{f"{term}_weight": done.factors[term] for term in ANCHORED},
    }
