"""How far the jobs of a run are, read from its files alone, and when all of it will be done; without torch.

A job runs where somebody holds its lock. Its rate is that of its curve; what has no curve yet takes what the plan
estimated, times what the estimates of this run turned out to be worth so far.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from heapq import heapify, heappop, heappush
from pathlib import Path
from statistics import median
from typing import NamedTuple

from common.at_work import is_held
from common.bounds import Natural
from common.disk import write_json
from common.errors import BadInput
from common.records import Asked, AskedJob, CurvePoint, Finite, Status, read_line, read_record
from common.steps import KINDS, folders_by_step
from common.unchanged import until_changed
from harness import store

FILE = "launch.json"
NOBODY = "nobody is at it: give the experiment's command again"
UNKNOWN = (math.nan, 0.0)  # seconds of steps and of evaluations where no plan tells
TAIL = 65536  # bytes at the end of a curve that surely hold its last line


@dataclass(frozen=True)
class Launch:
    """`launch.json`: by which launcher a run was started, and how many jobs run at once; for each job the seconds that
    the plan expects of its steps and of its evaluations, and the number of its Slurm job."""

    launcher: str
    workers: Natural
    expected: dict[str, tuple[Finite, Finite]]
    slurm: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Standing:
    """A job now: its state and why it is so; `rate` in steps a second, `left` in seconds of work, NaN where none tells;
    `loss` at its last logged step.

    "running", "waiting" (somebody will start it), "done", "failed", "blocked" (what it needs failed); where nobody is
    at work, "interrupted" or "not begun".
    """

    name: str
    asked: AskedJob
    state: str
    step: int
    rate: float | None = None
    left: float = 0.0
    words: str = ""
    loss: float | None = None


def write_launch(folder: Path, launch: Launch) -> None:
    """Keep what is launched, and what was before; numbers of Slurm jobs as long as Slurm is the launcher."""
    if (folder / FILE).exists():
        before = read_launch(folder)
        slurm = before.slurm | launch.slurm if launch.launcher == "slurm" else {}
        launch = replace(launch, expected=before.expected | launch.expected, slurm=slurm)
    write_json(folder / FILE, asdict(launch))


def read_launch(folder: Path) -> Launch:
    """What was launched; nothing of a run that is not so far yet, or a sweep. Raises `BadInput` where it is damaged."""
    path = folder / FILE
    if not path.exists():
        return Launch("none", 1, {})
    return read_record(path, Launch, remedy="remove it, and the experiment's command writes it anew")


def standings(folder: Path, *, at: Mapping[str, int] | None = None) -> list[Standing]:
    """Every job of a run, parents first. Raises `BadInput` for a folder that holds no run.

    at: the steps of jobs of which more is known than their curves have logged.
    """
    launch, asked = read_launch(folder), _asked_jobs(folder)
    queue = queued(launch.slurm.values())
    curves = {name: _curve(folder, one, (at or {}).get(name, 0)) for name, one in asked.items()}
    expected = {name: launch.expected.get(name, UNKNOWN) for name in asked}
    known = [
        curves[name].worth(one, seconds)
        for name, one in asked.items()
        if curves[name].rate and (seconds := expected[name][0]) > 0
    ]
    worth = median(known) if known else 1.0
    found: dict[str, Standing] = {}
    for name, one in asked.items():
        step, rate, loss = curves[name]
        needs = [found[need] for need in _needs(one) if need in found]
        number = launch.slurm.get(name, "")
        state, words = _state(folder, one, step=step, needs=needs, number=number, queue=queue)
        if state == "not begun" and step > one["start"]:
            state = "interrupted"
        if state == "done":
            found[name] = Standing(name, one, state, one["stop"], rate, loss=loss)
            continue
        share = (one["stop"] - step) / max(one["stop"] - one["start"], 1)
        training, evaluating = (share * worth * seconds for seconds in expected[name])
        left = ((one["stop"] - step) / rate if rate else training) + evaluating
        found[name] = Standing(name, one, state, step, rate, left, words, loss)
    return [*found.values()]


def trained_here(folder: Path, name: str, *, step: int, stop: int) -> Standing:
    """A job that this process trains, which is linked but in no record yet, as a trial is; without its evaluations."""
    one: AskedJob = {"segment": (folder / name).resolve().name, "start": 0, "stop": stop, "parent": None}
    curve = _curve(folder, one, step)
    left = (stop - curve.step) / curve.rate if curve.rate else math.nan
    return Standing(name, one, "running", curve.step, curve.rate, left, loss=curve.loss)


def seconds_left(jobs: Sequence[Standing], *, workers: int) -> float:
    """Until the last is done, where `workers` of them run at once and each begins after what it needs."""
    ends: dict[str, float] = {}
    free = [0.0] * max(1, workers)
    heapify(free)
    for job in sorted(jobs, key=lambda job: job.state != "running"):  # those that run have their worker
        if job.state != "done":
            begins = max([heappop(free), *(ends.get(need, 0.0) for need in _needs(job.asked))])
            ends[job.name] = begins + job.left
            heappush(free, ends[job.name])
    return max(ends.values(), default=0.0)


def queued(ids: Iterable[str]) -> dict[str, str]:
    """What Slurm says of those jobs that it is not done with, as "pending (dependency)", by their ids."""
    wanted = {*ids}
    command = ["squeue", "--noheader", "--me", "--format=%i %T %r"]
    if not wanted:
        return {}
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise BadInput(f"squeue does not answer ({error}): want a machine of the cluster; try again there") from error
    rows = [line.split(maxsplit=2) for line in said.splitlines()]
    return {row[0]: f"{row[1].lower()} ({row[2].lower()})" for row in rows if row[0] in wanted}


@until_changed("status.json")
def read_status(folder: Path) -> Status:
    """A job's `status.json`; that of a job that never began where there is none, or none that can be read."""
    try:
        return read_record(folder / "status.json", Status, remedy="it is written anew")
    except BadInput:
        return Status()


@until_changed("metrics.jsonl")
def logged_step(folder: Path) -> int:
    """The last step in a job's curve; 0 where there is none."""
    return next((point["step"] for point in _points(reversed(_tail(folder)))), 0)


def curve_end(folder: Path) -> list[CurvePoint]:
    """The points at the end of a job's curve."""
    return [*_points(_tail(folder))]


class _Curve(NamedTuple):
    """The last step of a job, its steps a second over the end of its curve, where that has two points, and its loss."""

    step: int
    rate: float | None
    loss: float | None

    def worth(self, asked: AskedJob, expected: float) -> float:
        """Seconds that a step takes for each that the plan expected."""
        assert self.rate is not None
        return (asked["stop"] - asked["start"]) / self.rate / expected


def _curve(folder: Path, asked: AskedJob, at: int) -> _Curve:
    """What is logged of a job, and the step that it is at where that is known to be later."""
    found = _logged(_segment(folder, asked) / "metrics.jsonl", asked["start"], asked["stop"])
    return found._replace(step=min(max(found.step, at), asked["stop"]))


@until_changed()
def _logged(path: Path, start: int, stop: int) -> _Curve:
    lines = _tail(path.parent)
    first = next((point for point in _points(lines) if start < point["step"]), None)
    last = next((point for point in _points(reversed(lines)) if point["step"] <= stop), None)
    if first is None or last is None or not start < last["step"]:
        return _Curve(start, None, None)
    seconds = last.get("seconds", 0.0) - first.get("seconds", 0.0)
    rate = (last["step"] - first["step"]) / seconds if seconds > 0 else None
    return _Curve(last["step"], rate, last.get("loss"))


def _asked_jobs(folder: Path) -> Mapping[str, AskedJob]:
    """What each job trains, from the experiment's record."""
    path = folder / "experiment.json"
    if not path.exists():
        raise BadInput(f"{folder} holds no {path.name}: want the folder of an experiment, such as runs/gram_ablation")
    return _jobs_of_record(path)


@until_changed()
def _jobs_of_record(path: Path) -> Mapping[str, AskedJob]:
    asked = read_record(path, Asked, remedy="remove it, and the experiment's command writes it anew").get("jobs")
    if not asked:
        raise BadInput(f"{path} names no jobs: an earlier version wrote it; want a run of this one")
    return asked


def _needs(asked: AskedJob) -> list[str]:
    """The names of the jobs that must be done before it: what it forks from, and its teacher."""
    return [name for name in (asked["parent"], asked.get("taught_by")) if name is not None]


def _segment(folder: Path, asked: AskedJob) -> Path:
    return folder.parent / store.FOLDER / asked["segment"]


def _tail(folder: Path) -> list[bytes]:
    """The lines at the end of a job's curve."""
    path = folder / "metrics.jsonl"
    if not path.is_file():
        return []
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - TAIL))
        return file.read().split(b"\n")


def _points(lines: Iterable[bytes]) -> Iterator[CurvePoint]:
    """Those lines that are sound; a damaged one, such as one that is just being written, is passed over."""
    for line in lines:
        with suppress(ValueError):
            yield read_line(line, CurvePoint)


def _state(
    folder: Path, one: AskedJob, *, step: int, needs: Sequence[Standing], number: str, queue: Mapping[str, str]
) -> tuple[str, str]:
    """What a job does now at a step, and why it waits or what ended it; "not begun" also where nobody goes on with it.

    number: of its Slurm job, or empty.
    """
    segment = _segment(folder, one)
    status = read_status(segment)
    stop, asked = one["stop"], status.steps or 0  # a segment's status speaks of the job that trained it last
    if (status.step or 0) >= stop and (status.state == "done" or asked > stop):
        return "done", ""
    if behind := [need for need in needs if need.state != "done"]:
        return _behind(behind)
    if is_held(segment):
        return "running", "evaluating" if _is_evaluated(segment, step) else ""
    if number in queue:
        return ("running" if queue[number].startswith("running") else "waiting"), f"Slurm job {number}, {queue[number]}"
    if status.state == "failed" and asked == stop:
        return "failed", status.error or ""
    if number and status.state != "interrupted":
        return "failed", f"Slurm job {number} ended early; what it said is in {folder}/slurm/{number}_0_log.out"
    if is_held(folder):
        return "waiting", "for a free worker"
    return "not begun", NOBODY


def _behind(needs: Sequence[Standing]) -> tuple[str, str]:
    """What a job does that needs these jobs, which are not done."""
    for need in needs:
        if need.state in ("failed", "blocked"):
            return "blocked", f"since {need.name} {'has' if need.state == 'failed' else 'is'} {need.state}"
    if any(need.state in ("interrupted", "not begun") for need in needs):
        return "not begun", NOBODY
    return "waiting", f"for {needs[0].name}"


def _is_evaluated(segment: Path, step: int) -> bool:
    """Whether what was exported last, since the last logged step, has no results yet."""
    for kind in KINDS.values():
        for last, folder in [*folders_by_step(segment, kind).items()][-1:]:
            if last >= step and not any(folder.glob(store.MARKS)):
                return True
    return False
