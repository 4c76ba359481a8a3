"""`launcher=none`: one job after the other, students of one teacher side by side, in this process."""

from __future__ import annotations

import time

from common.at_work import is_held
from common.errors import found
from common.interrupts import leave_if_asked
from common.progress import tick
from harness.launchers.jobs import Work, log, refused, trained
from harness.lockstep import side_by_side
from harness.workplace import LOOK, Busy


def launch(work: Work) -> set[str]:
    """Train all jobs; names those that failed, or could not start since one that they need did.

    What another process is at work on is left until the rest is done, and then waited for.
    """
    failed, told = set[str](), set[str]()
    waiting = {job.name: job for job in work.jobs}
    while waiting:
        before = len(waiting)
        for job in work.jobs:
            leave_if_asked()
            if job.name not in waiting or any(need.name in waiting for need in job.needs):
                continue
            if refused(job, failed):
                del waiting[job.name]
                continue
            able = [one for one in waiting.values() if not any(n.name in {*waiting, *failed} for n in one.needs)]
            these = side_by_side(job, [one for one in able if not is_held(one.folder)])
            try:
                failed |= trained(these, work)
            except Busy as error:
                words = f"{job.name} waits: {found(error)}"
                if words not in told:
                    log.info("%s", words)
                told.add(words)
                continue
            for one in these:
                del waiting[one.name]
        if len(waiting) == before:
            leave_if_asked()
            tick()
            time.sleep(LOOK)
    return failed
