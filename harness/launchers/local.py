"""`launcher=local`: several jobs at once on this machine, each in a process of its own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

import torch

from common.at_work import is_held
from common.disk import write_json
from common.interrupts import BROKEN_OFF, RESUME, Interrupted, leave_if_asked
from common.progress import Bar, tick
from harness.job import Job
from harness.job_folder import goes_on, is_done
from harness.launchers.jobs import Work, gathered, is_finished, refused, sent, words
from harness.launchers.worker_process import PROGRAM, send
from harness.lockstep import side_by_side
from harness.standings import logged_step, read_status
from harness.workplace import in_use

LOOK = 0.2  # seconds between two looks at the workers
LEAVE = BROKEN_OFF + 4.0  # seconds that a worker has to leave when all are stopped, or asked to

log = logging.getLogger("gramlab")


class Worker:
    """A process that trains jobs side by side, most often one; what it tells goes to the log.

    `slot` counts the workers that run at once; `name` is that of the first job.
    """

    def __init__(self, jobs: Sequence[Job], work: Work, *, slot: int) -> None:
        self.jobs, self.name, self.slot = jobs, jobs[0].name, slot
        environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
        if work.device.type == "cuda":
            environment["CUDA_VISIBLE_DEVICES"] = visible(slot)
        self.process = subprocess.Popen(
            [sys.executable, PROGRAM, *words(jobs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,  # Ctrl-C is the main process's to answer
        )
        self.teller = threading.Thread(target=self._tell, daemon=True)  # a signal may come before anyone can stop it
        self.teller.start()
        send(sent(work), self.process)
        more = f" and {len(jobs) - 1} more" if len(jobs) > 1 else ""
        begun = min(map(curve_step, jobs))
        own = {"desc": f"{self.name}{more}", "unit": "step", "dynamic_ncols": True}
        self.bar = Bar(of=self.name, total=jobs[0].stop, initial=begun, **own)
        self.evaluator, self.gathered = work.evaluator, {job.name: set[int]() for job in jobs}

    def _tell(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            said = line.decode(errors="backslashreplace").rstrip()
            named = any(said.startswith(job.name) for job in self.jobs)
            log.info("%s", said if named else f"{self.name}: {said}")

    def look(self) -> None:
        """Show how far it is, and gather what it has evaluated."""
        step = min(map(curve_step, self.jobs))
        if step > self.bar.n:
            self.bar.follow(step)
            self._gather()

    def _gather(self) -> None:
        for job in self.jobs:
            gathered(job, self.evaluator, self.gathered[job.name])

    def end(self) -> int:
        """Its exit code, once it has ended; what it held open is closed."""
        code = self.process.wait()
        self.teller.join()
        self._gather()
        self.bar.close()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        return code


def launch(work: Work) -> set[str]:
    """Train all jobs; names those that failed, or could not start since their parent did.

    Ctrl-C stops all of them, and so does who asks this process to leave.
    """
    crew = list[Worker]()
    try:
        return carried_out(work, crew)
    except Interrupted as error:
        if stopped := [job for worker in crew for job in worker.jobs if not is_done(job)]:
            error.add_note(goes_on(stopped))
        raise


def carried_out(work: Work, crew: list[Worker]) -> set[str]:
    """As `launch`; `crew` are the workers that run, each ended when this ends."""
    left, done, failed, told = [*work.jobs], set[str](), set[str](), set[str]()
    with Overall(work.experiment.name, work.jobs) as overall:
        try:
            while left or crew:
                leave_if_asked()
                left = [job for job in left if not refused(job, failed)]
                while len(crew) < work.workers and (job := next_job(left, done, crew, told=told)):
                    left.remove(job)
                    if is_finished(job, work):
                        done.add(job.name)
                        continue
                    others = (one for one in left if is_free(one, done, crew) and not is_finished(one, work))
                    these = side_by_side(job, others)
                    left = [one for one in left if one not in these]
                    crew.append(Worker(these, work, slot=free_slot(crew)))
                for worker in [*crew]:
                    worker.look()
                    if worker.process.poll() is not None:
                        crew.remove(worker)
                        if (code := worker.end()) == RESUME:  # somebody asked it alone to leave
                            left = [*worker.jobs, *left]
                            continue
                        lost = losses(worker, code)
                        failed |= lost
                        done |= {job.name for job in worker.jobs} - lost
                overall.show(done, failed, crew)
                tick()
                time.sleep(LOOK)
        finally:
            stop(crew)
    return failed


class Overall(Bar):
    """The bar of all steps of all jobs, from what was there before; its rate is that of the steps trained since."""

    def __init__(self, name: str, jobs: Sequence[Job]) -> None:
        self.name, self.jobs = name, jobs
        self.over = {job.name: curve_step(job) - job.start for job in jobs}
        total, before = sum(job.stop - job.start for job in jobs), sum(self.over.values())
        of_all = {"total": total, "initial": before, "desc": name, "of": name}
        super().__init__(**of_all, unit="step", dynamic_ncols=True, smoothing=0.05)

    def show(self, done: set[str], failed: set[str], crew: Sequence[Worker]) -> None:
        """How many steps and jobs are over; those of jobs that failed will not come."""
        self.over |= {job.name: job.stop - job.start for job in self.jobs if job.name in done | failed}
        self.over |= {job.name: curve_step(job) - job.start for worker in crew for job in worker.jobs}
        self.set_description_str(f"{self.name}, {len(done)} of {len(self.jobs)} jobs", refresh=False)
        self.follow(sum(self.over.values()))


def curve_step(job: Job) -> int:
    """The last step of a job that its curve holds; the one it starts from where that is none of its own."""
    return min(max(logged_step(job.folder), job.start), job.stop)


def next_job(left: Sequence[Job], done: set[str], crew: Sequence[Worker], *, told: set[str]) -> Job | None:
    """The first job that could begin and whose segment no other process trains.

    What waits for another process is told, but not what is in `told`, which grows.
    """
    for job in left:
        if is_free(job, done, crew):
            return job
        if is_ours(job, done, crew) and job.name not in told:
            log.info("%s waits: %s", job.name, in_use(job.folder))
            told.add(job.name)
    return None


def is_free(job: Job, done: set[str], crew: Sequence[Worker]) -> bool:
    """Whether a job could begin, and nobody trains its segment, neither a worker of ours nor another process."""
    return is_ours(job, done, crew) and not is_held(job.folder)


def is_ours(job: Job, done: set[str], crew: Sequence[Worker]) -> bool:
    """Whether all that a job needs is done, and no worker of ours trains its segment."""
    busy = {own.folder for worker in crew for own in worker.jobs}
    return job.folder not in busy and all(need.name in done for need in job.needs)


def free_slot(crew: Sequence[Worker]) -> int:
    """The lowest number that none of them has."""
    return min({*range(len(crew) + 1)} - {worker.slot for worker in crew})


def losses(worker: Worker, code: int) -> set[str]:
    """The jobs that a worker which has ended so did not bring to the end; each is told, and the others go on."""
    if code == 0:
        return set()
    how = f"exit code {code}" if code > 0 else f"ended by {signal.Signals(-code).name}"
    lost = [job for job in worker.jobs if len(worker.jobs) == 1 or read_status(job.folder).state != "done"]
    for job in lost:
        note_failure(job, how)
        log.error("%s: failed (%s)", job.name, how)
    return {job.name for job in lost}


def note_failure(job: Job, how: str) -> None:
    """Say in a job's status that it failed, where it could not do so itself."""
    status = read_status(job.folder)
    if status.state != "failed":
        told = {"state": "failed", "step": status.step or job.start, "steps": job.stop, "error": how}
        write_json(job.folder / "status.json", {**asdict(status), **told})


def stop(crew: Sequence[Worker]) -> None:
    """Let all save their states and leave; who has not left after `LEAVE` seconds, or at another Ctrl-C, is ended."""
    for worker in crew:
        worker.process.send_signal(signal.SIGUSR1)
    try:
        until = time.monotonic() + LEAVE
        for worker in crew:
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(timeout=max(0.0, until - time.monotonic()))
    finally:
        for worker in crew:
            worker.process.kill()
            worker.end()


def visible(slot: int) -> str:
    """The GPU of a worker, as CUDA_VISIBLE_DEVICES names it: they take turns."""
    ours = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    known = [name for name in ours if name] or [str(number) for number in range(torch.cuda.device_count())]
    return known[slot % len(known)]
