"""The command `gramlab watch runs/EXPERIMENT`: what `gramlab status` tells, until nothing runs or waits any more."""

from __future__ import annotations

import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from rich.console import Console, RenderableType
from rich.text import Text

from common.command import answer, parsed
from common.display import shown
from common.progress import is_redrawn, tick
from harness import arguments
from harness.display import Shown
from harness.standings import standings
from harness.status import GOES_ON, table, trials_in_training

EVERY = 5  # seconds


def main(argv: list[str] | None = None) -> int:
    """Exit code: 0 all is done, 1 a job failed, 2 no folder of a run."""
    return answer(lambda: _watch(argv), afterwards="what runs goes on")


def _watch(argv: list[str] | None) -> int:
    folder = parsed(arguments.watch, "watch", argv).folder
    jobs, told, short = standings(folder), "", Shown(folder)

    def content(console: Console) -> RenderableType:
        text = Text(table(folder, jobs))
        lines = text.split()
        fits = len(lines) < console.height and max(line.cell_len for line in lines) <= console.width
        return text if fits else short.of(jobs, console)

    with shown(content, on=sys.stdout, stays=True):
        while True:
            if not is_redrawn(sys.stdout) and (text := table(folder, jobs)) != told:
                print(told := text, flush=True)
            if not any(job.state in GOES_ON for job in jobs) and not trials_in_training(folder):
                return 1 if any(job.state == "failed" for job in jobs) else 0
            time.sleep(EVERY)
            jobs = standings(folder)
            tick()


if __name__ == "__main__":
    sys.exit(main())
