"""Workers as processes: what they are given, and how they leave when told to – at work, waiting, or not yet begun."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from submitit import LocalExecutor

from common.interrupts import RESUME
from harness.config import as_dict, load
from harness.data.pool import fingerprint, open_pool
from harness.graph import jobs
from harness.job import Job
from harness.launchers.slurm_task import Task
from harness.launchers.worker_process import PROGRAM, send
from harness.workplace import held

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("signals_heard")]


@pytest.fixture
def job(write_tiny: Callable[..., Path]) -> Job:
    """The first of the tiny experiment."""
    experiment = load(write_tiny(runtime={"threads": 1}))
    return jobs(experiment, fingerprint=lambda data: fingerprint(open_pool(data)))[0]


@pytest.fixture
def settled(write_tiny: Callable[..., Path]) -> dict[str, Any]:
    """What its launcher sends."""
    return json.loads(json.dumps(as_dict(load(write_tiny(runtime={"threads": 1})))))


@pytest.fixture
def worker(job: Job, settled: dict[str, Any]) -> Iterator[subprocess.Popen[bytes]]:
    """One that has been given the job."""
    command = [sys.executable, PROGRAM, job.name, job.identity]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        send(settled, process)
        yield process
        process.kill()


def test_settings_longer_than_a_pipe_go_to_one_that_has_ended_or_never_reads():
    for program in ("pass", "import time; time.sleep(1)"):
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as process:
            send({"question": "why? " * 10**6}, process)
        assert process.returncode == 0


def test_settings_that_never_come_are_one_line():
    command = [sys.executable, PROGRAM, "plain-s0"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("gramlab: got no settings on stdin")
    assert done.stderr.count("\n") == 1


def test_a_worker_that_waits_for_another_process_says_so_once_and_leaves_when_asked(job, worker):
    with held(job.folder):
        assert worker.stderr is not None
        assert worker.stderr.readline().decode().startswith(f"{job.name} waits: {job.folder} is in use by process")
        time.sleep(3)  # it looks a few times
        worker.send_signal(signal.SIGUSR2)
        assert worker.wait(timeout=60) == RESUME
        assert worker.stderr.read().decode().startswith("gramlab: asked to leave by SIGUSR2; the same command")
    assert not (job.folder / "metrics.jsonl").exists()


def test_a_slurm_job_whose_worker_dies_of_the_request_to_leave_goes_on_in_the_queue(job, settled, tmp_path):
    """Before it listens for it, that is; the same signal reaches the job next: by submitit, as on Slurm."""
    executor = LocalExecutor(tmp_path / "slurm")
    executor.update_parameters(timeout_min=10, signal_delay_s=1)
    submitted = executor.submit(Task([job.name, job.identity], settled, grace=60))
    task = begun(psutil.Process(int(submitted.job_id)), "-u -m submitit")
    worker = begun(task, PROGRAM)
    worker.send_signal(signal.SIGUSR2)
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    time.sleep(0.5)  # the job has seen its exit code by now
    task.send_signal(signal.SIGUSR2)
    submitted.result()
    assert "Caught signal SIGUSR2" in str(submitted.stderr())
    assert json.loads((job.folder / "status.json").read_text())["state"] == "done"


def begun(parent: psutil.Process, words: str) -> psutil.Process:
    """The child of a process whose command holds these words, as soon as there is one."""
    while True:
        for child in parent.children():
            try:
                if words in " ".join(child.cmdline()):
                    return child
            except psutil.Error:
                continue
        time.sleep(0.005)
