"""The command `gramlab watch runs/EXPERIMENT`: its status again and again, and its report as a page that follows it."""

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

from common.command import answer, end, parsed
from common.display import shown
from common.progress import is_redrawn, tick
from harness import arguments
from harness.display import Shown
from harness.standings import Standing, standings
from harness.status import GOES_ON, table, trials_in_training
from reports.live.watching import following, open_browser, stay

EVERY = 5  # seconds


def main(argv: list[str] | None = None) -> int:
    """Exit code once nothing runs or waits any more: 0 all is done, 1 a job failed, 2 no folder of a run."""
    return answer(lambda: _watch(argv), afterwards="what runs goes on")


def _watch(argv: list[str] | None) -> int:
    options = parsed(arguments.watch, "watch", argv)
    folder = options.folder
    jobs, told, short = standings(folder), "", Shown(folder)
    with following(folder, host=options.host, port=options.port) as page:
        print(page.told, file=sys.stderr, flush=True)

        def content(console: Console) -> RenderableType:
            text = Text(table(folder, jobs))
            lines = text.split()
            fits = len(lines) < console.height and max(line.cell_len for line in lines) <= console.width
            return text if fits else short.of(jobs, console)

        if redrawn := is_redrawn(sys.stdout):
            open_browser(page.address)
        with shown(content, on=sys.stdout, stays=True):
            while True:
                if not redrawn and (text := table(folder, jobs)) != told:
                    print(told := text, flush=True)
                page.refresh()
                if not _goes_on(folder, jobs):
                    break
                time.sleep(EVERY)
                jobs = standings(folder)
                tick()
        if redrawn:
            print("Nothing is left to do; the page stays until Ctrl-C.", flush=True)
            stay(page)
    return 1 if any(job.state == "failed" for job in jobs) else 0


def _goes_on(folder: Path, jobs: list[Standing]) -> bool:
    return any(job.state in GOES_ON for job in jobs) or bool(trials_in_training(folder))


if __name__ == "__main__":
    end(main())
