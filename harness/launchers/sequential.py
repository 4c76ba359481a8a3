"""`launcher=none`: one job after the other, in this process."""

from __future__ import annotations

import time

from common.errors import found
from harness.launchers.jobs import Work, log, refused, trained
from harness.workplace import LOOK, Busy


def launch(work: Work) -> set[str]:
    """Train all jobs; names those that failed, or could not start since their parent did.

    What another process is at work on is left until the rest is done, and then waited for.
    """
    failed, told = set[str](), set[str]()
    waiting = {job.name: job for job in work.jobs}
    while waiting:
        before = len(waiting)
        for job in [*waiting.values()]:
            if any(need.name in waiting for need in job.needs):
                continue
            try:
                if not refused(job, failed) and not trained(job, work):
                    failed.add(job.name)
            except Busy as error:
                words = f"{job.name} waits: {found(error)}"
                if words not in told:
                    log.info("%s", words)
                told.add(words)
                continue
            del waiting[job.name]
        if len(waiting) == before:
            time.sleep(LOOK)
    return failed
