"""The command `gramlab status runs/EXPERIMENT`: what runs, waits, failed and is done, and until when."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.at_work import is_held
from common.command import answer, columns, duration, end, parsed
from common.records import read_record
from common.sweep_records import Swept
from common.unchanged import until_changed
from harness import arguments
from harness.standings import Standing, read_launch, seconds_left, standings

STATES = ("running", "waiting", "done", "failed", "blocked", "interrupted", "not begun")
GOES_ON = STATES[:2]
ENDS = ("complete", "pruned", "failed")  # of a trial


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 told, 1 a job failed, 2 no folder of a run."""
    return answer(lambda: _status(argv))


def _status(argv: list[str] | None) -> int:
    jobs = standings(folder := parsed(arguments.status, "status", argv).folder)
    print(table(folder, jobs))
    return 1 if any(job.state == "failed" for job in jobs) else 0


def table(folder: Path, jobs: Sequence[Standing]) -> str:
    """A line for each job – the steps that are its own, and the one that it is at – and one for all of them."""
    rows = [("job", "steps", "at", "state", "steps/s", "left", "")]
    rows += [
        (
            job.name,
            f"{job.asked['start']}–{job.asked['stop']}",
            str(job.step) if job.step > job.asked["start"] else "–",
            job.state,
            rate(job),
            left(job),
            job.words,
        )
        for job in jobs
    ]
    return "\n".join([columns(rows), summary(folder, jobs), *swept(folder)])


def rate(job: Standing) -> str:
    """Its steps a second."""
    return f"{job.rate:.2g}" if job.rate else "–"


def left(job: Standing) -> str:
    """How long it takes yet."""
    return duration(job.left) if job.left > 0 else "–"


def summary(folder: Path, jobs: Sequence[Standing]) -> str:
    """How many are in each state, and when the last will be done if things go on as they do."""
    counts = Counter(job.state for job in jobs)
    said = f"{folder.name}: {', '.join(f'{counts[state]} {state}' for state in STATES if counts[state])}"
    goes_on = [job for job in jobs if job.state in GOES_ON]
    if not goes_on or any(math.isnan(job.left) for job in goes_on):
        return said
    seconds = seconds_left(goes_on, workers=read_launch(folder).workers)
    at = datetime.now() + timedelta(seconds=seconds)
    when = f"{at:%H:%M}" if at.date() == datetime.now().date() else f"{at:%Y-%m-%d %H:%M}"
    return f"{said}; done in about {duration(seconds)}, at {when}"


def swept(folder: Path) -> list[str]:
    """Of a sweep, how many of its trials came to an end, and which are in training; [] for any other run."""
    path = folder / "sweep.json"
    if not path.exists():
        return []
    record = _record_of_sweep(path)
    ends = Counter(trial["state"] for trial in record.get("trials", []) if trial["state"] in ENDS)
    told = f"trials: {ends.total()} of {record.get('wanted', 0)} at an end"
    told += f" ({', '.join(f'{ends[state]} {state}' for state in ENDS if ends[state])})" if ends else ""
    now = trials_in_training(folder)
    return [f"{told}; in training: {', '.join(now) or 'none'}"]


@until_changed()
def _record_of_sweep(path: Path) -> Swept:
    return read_record(path, Swept, remedy="remove it: the next trial writes it anew")


def trials_in_training(folder: Path) -> list[str]:
    """The trials of a sweep whose segment some process holds."""
    return sorted(view.name for view in folder.glob("trial-*") if view.exists() and is_held(view.resolve()))


if __name__ == "__main__":
    end(main())
