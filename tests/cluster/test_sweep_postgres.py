"""A sweep whose study lies in a real PostgreSQL, worked at by two processes of which one is killed."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
URL = os.environ.get("GRAMLAB_POSTGRES", "")
pytestmark = pytest.mark.skipif(not URL, reason="GRAMLAB_POSTGRES names no PostgreSQL: make cluster starts one")
SWEEP = {
    "objectives": ["hours"],
    "trials": 3,
    "heartbeat": 1,
    "storage": URL,
    "space": {"gram.weight": {"low": 0.1, "high": 10.0, "log": True}},
}


@pytest.fixture
def path(tiny_text, tmp_path):
    """A tiny sweep whose name, and so its study's, is its own: the server outlives the test."""
    file = tmp_path / "tiny.yaml"
    own = {"name": f"tiny-{os.getpid()}-{time.time_ns()}", "steps": 150, "trunk": {"steps": 2}, "arms": {}}
    file.write_text(tiny_text(tmp_path, **own, runtime={"threads": 1, "checkpoint_every": 5}, sweep=SWEEP))
    return file


def started(path, *words):
    command = [sys.executable, str(ROOT / "harness" / "sweep.py"), str(path), *words]
    environment = {**os.environ, "PYTHONPATH": "", "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def is_under_way(folder, worker):
    """Whether a worker is at a trial and has kept a state of it."""
    busy = [lock.parent for lock in folder.glob("trial-*/.lock") if lock.read_text() == str(worker)]
    return any([*trial.glob("states/step_*.safetensors")] for trial in busy)


def test_a_killed_worker_s_trial_goes_on_and_the_study_is_continued_and_bound(path, tmp_path):
    folder = tmp_path / "runs" / yaml.safe_load(path.read_text())["name"]
    gone, left = started(path), started(path)
    while not is_under_way(folder, gone.pid):
        assert gone.poll() is None, gone.communicate()
        assert left.poll() is None, left.communicate()
        time.sleep(0.01)
    gone.kill()
    gone.communicate()
    said = left.communicate(timeout=600)[1]
    assert left.returncode == 0, said
    assert re.search(r"trial-000\d-s0: goes on from step \d", said)

    more = started(path, "--trials", "4")
    said = more.communicate(timeout=600)[1]
    assert more.returncode == 0, said
    trials = json.loads((folder / "sweep.json").read_text())["trials"]
    assert [(one["arm"], one["state"]) for one in trials] == [(f"trial-{n:04d}", "complete") for n in range(4)]
    assert not (folder / "study.journal").exists()

    other = started(path, "steps=151")
    said = other.communicate(timeout=600)[1]
    assert other.returncode == 2
    assert "steps was 150, is 151" in said


def test_a_server_that_does_not_know_the_database_is_refused_in_one_line(path, tmp_path):
    lost = started(path, f"sweep.storage={URL}_of_nobody")
    said = lost.communicate(timeout=600)[1]
    assert lost.returncode == 2
    assert said.count("\n") == 1, said
    assert "does not answer" in said
    assert not (tmp_path / "runs").exists()
