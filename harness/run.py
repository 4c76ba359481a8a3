"""The main job: `gramlab run experiments/gram_ablation.yaml [key=value ...] [--plan]`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common import bounded
from common.command import answer, end, parsed
from common.disk import write_text
from common.display import shown
from common.errors import BadInput
from common.interrupts import resumable
from common.machine import environment
from common.progress import silent, telling
from common.ranks import is_first, refuse_one, refuse_several, started
from common.timeline import write_timeline
from harness import arguments, clean, store
from harness.check_data import check_data
from harness.config import as_dict, load
from harness.data.pool import Pools, fingerprint
from harness.display import Shown
from harness.evaluate import Evaluator
from harness.follow import dismiss, follow
from harness.found import trained_lines
from harness.graph import jobs
from harness.job import Job
from harness.job_folder import check
from harness.launchers.jobs import Work
from harness.launchers.slurm import refuse_no_slurm
from harness.launchers.table import LAUNCHERS
from harness.opening import Opening, Planned, opened, planned
from harness.record import write_record
from harness.settings import Experiment
from harness.standings import Launch, write_launch
from harness.trackers.mirrors import mirrored
from harness.trackers.table import refuse_missing
from harness.trackers.tensorboard import TensorBoard
from harness.workplace import held
from reports.timeline import build_plan

log = logging.getLogger("gramlab")


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 done, 1 an arm failed, 2 bad input; 75 asked to leave, 130 interrupted: the same command goes on.

    Of several processes of `torchrun` the first one speaks for all.
    """
    with nullcontext() if is_first() else silent():
        return answer(lambda: _run(argv))


def _run(argv: list[str] | None) -> int:
    args = parsed(arguments.run, "run", argv)
    arms = args.arms.split(",") if args.arms is not None else None
    with started() as ranks:
        experiment = ranks.told(lambda: load(args.experiment, args.overrides, arms=arms))
        if not ranks.first:
            return follow(ranks, experiment.device)
        code = run(experiment, plan_only=args.plan, checks_data=args.check_data)
        dismiss(ranks)
        return code


def run(experiment: Experiment, *, plan_only: bool = False, checks_data: bool = False) -> int:
    """Plan, train, evaluate and report one experiment."""
    if not experiment.arms:
        raise BadInput(
            f"{experiment.name}: neither the file nor the command line names an arm: want at least one, for example "
            "arms: {plain: {}}"
        )
    if experiment.launcher.name != "none":
        refuse_several(f"launcher.name={experiment.launcher.name}", "set launcher.name=none, or leave torchrun out")
    if not plan_only:
        if experiment.runtime.shard:
            refuse_one(
                "runtime.shard=true", "start it by torchrun --nproc-per-node N harness/run.py, or set it to false"
            )
        refuse_missing(experiment.trackers)
        if experiment.launcher.name == "slurm":
            refuse_no_slurm()
    opening = opened(experiment)
    experiment, folder, pools = opening.experiment, opening.folder, opening.pools
    todo = jobs(experiment, fingerprint=lambda data: fingerprint(pools(data)))
    for job in todo:
        check(job)
    evaluator = Evaluator(experiment, folder)
    plan = planned(opening, todo, evaluator)
    print(plan.text, flush=True)
    if checks_data:
        check_all(todo, pools)
    if plan_only:
        print(f"timeline: {drawn(plan, opening, only=True)}")
        return 0
    work = Work(experiment, folder, todo, plan.broken, pools, evaluator, opening.device, opening.workers, plan.expected)
    with held(folder), telling(folder / "log.txt"):
        machine = environment(opening.device, precision=experiment.precision)
        told, identity = trained_lines(todo, pools), evaluator.identity
        write_record(folder, experiment, todo, evaluator.tasks, machine, trained=told, evaluations=identity)
        show(plan, opening, experiment)
        write_timeline(folder / "plan.json", plan.timeline)
        for line in plan.told:
            log.info("%s", line)
        keep_within(experiment)
        code = carry_out(work)
        keep_within(experiment)
        return code


def keep_within(experiment: Experiment) -> None:
    """Keep cache and store within the sizes that the settings name."""
    runtime = experiment.runtime
    bounded.keep_within(Path(runtime.cache), runtime.cache_gib, setting="runtime.cache_gib")
    clean.keep_within(Path(runtime.folder), runtime.store_gib)


def drawn(plan: Planned, opening: Opening, *, only: bool = False) -> Path:
    """Draw the plan's timeline; one that is only looked at leaves that of a run alone. Returns where it lies."""
    path = opening.folder / ("plan-only.pdf" if only and opening.record else "plan.pdf")
    build_plan(plan.timeline, path)
    return path


def show(plan: Planned, opening: Opening, experiment: Experiment) -> None:
    """Draw the plan, and keep it as text; TensorBoard, which is always on, gets that here, with all settings."""
    if experiment.runtime.draw:
        drawn(plan, opening)
    write_text(opening.folder / "plan.txt", plan.text + "\n")
    board = TensorBoard(opening.folder / "tensorboard", anew=True)
    board.text("plan", plan.text)
    board.settings(as_dict(experiment))
    board.close()


def carry_out(work: Work) -> int:
    """Let the launcher see to all jobs, and build the report, unless they go on elsewhere."""
    from reports.build import build  # pandas and SciPy: a second that a plan need not wait for

    for job in work.jobs:
        store.pin(job.folder / "states", job.forks)  # so that another process at work there keeps them too
    launcher = work.experiment.launcher.name
    expected = {name: (one.training, one.evaluating) for name, one in work.expected.items()}
    write_launch(work.folder, Launch(launcher, work.workers, expected))
    leaves = resumable() if launcher != "slurm" else nullcontext()  # which trains nothing here
    with leaves, mirrored(work.folder, work.experiment.trackers):
        with shown(Shown(work.folder)):
            failed = LAUNCHERS[launcher](work)
        if failed is None:
            return 0
        draws = work.experiment.runtime.draw
        print(build(work.folder, draws=draws, tell=print) if work.evaluator.known else work.folder)
    return 1 if failed else 0


def check_all(todo: Sequence[Job], pools: Pools) -> None:
    """Read all training images of these jobs, each source once. Raises `BadInput` that names those that cannot be."""
    with telling():
        sources = {repr(job.settings.data): job.settings.data for job in todo}
        checked = [check_data(data, pools(data)) for data in sources.values()]
    print(*dict.fromkeys(checked), sep="\n", flush=True)


if __name__ == "__main__":
    end(main())
