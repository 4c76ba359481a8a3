"""Several jobs at once on one machine: the same bits as one after the other, stopped by Ctrl-C and gone on with."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from common.at_work import is_held
from common.interrupts import RESUME
from harness.config import load
from harness.data.pool import fingerprint, open_pool
from harness.graph import jobs
from harness.launchers.local import Overall
from harness.run import main
from harness.standings import standings
from harness.workplace import held
from tests.processes import Command
from tests.terminal import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("signals_heard")]

ROOMS = {"size": 32, "split": "val", "name": "rooms"}
SECTIONS = {
    "steps": 50,
    "trunk": {"steps": 10},
    "arms": {
        "plain": {},
        "anchored": {"gram.weight": 2.0},
        "blown": {"optimizer.lr": 1e30},
        "behind": {"from": "blown", "at": 30, "gram.weight": 1.0},
    },
    "evals": {
        "every": 20,
        "sets": {"kept": {**ROOMS, "count": 24}, "asked": {**ROOMS, "count": 8, "split": "test"}},
        "tasks": {"knn": {"protocol": "knn", "train": "kept", "test": "asked"}},
    },
    "runtime": {"checkpoint_every": 1000},
}


def tensors(folder: Path) -> dict[str, dict[str, bytes]]:
    """All weights and states below a folder, to the bit."""
    return {
        str(path.relative_to(folder)): {name: x.numpy().tobytes() for name, x in load_file(path).items()}
        for path in sorted((folder / ".segments").rglob("*.safetensors"))
    }


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """Starts a run with two workers; none outlives the test."""
    begun = list[Command]()

    def start(path: Path, *words: str) -> Command:
        words = (str(path), "launcher=local", "launcher.workers=2", *words)
        begun.append(Command("harness/run.py", *words, folder=tmp_path))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()


def until(happened: Callable[[], bool], process: Command) -> None:
    while not happened():
        assert process.poll() is None
        time.sleep(0.05)


def segments(path: Path) -> dict[str, Path]:
    """Where the jobs of an experiment lie."""
    return {job.name: job.folder for job in jobs(load(path), fingerprint=lambda data: fingerprint(open_pool(data)))}


def test_two_workers_that_are_stopped_and_go_on_leave_what_one_process_leaves(
    tmp_path, tiny_text, started, monkeypatch
):
    path, calm = tmp_path / "tiny.yaml", tmp_path / "calm.yaml"
    path.write_text(tiny_text(tmp_path, **SECTIONS))
    calm.write_text(tiny_text(tmp_path / "calm", **SECTIONS))
    assert main([str(calm)]) == 1  # an arm blows up
    run = tmp_path / "runs" / "tiny"

    def rows():
        return len(read(run / "anchored-s0" / "metrics.jsonl").splitlines())

    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, RESUME), (signal.SIGUSR1, RESUME)):
        before = rows()
        process = started(path, "arms=[plain,anchored]")
        until(lambda before=before: rows() > before, process)  # it trains anew, and hears
        process.send_signal(number)
        said = process.communicate(timeout=120)[1].splitlines()
        assert process.returncode == code
        how = "interrupted" if number == signal.SIGINT else f"asked to leave by {number.name}"
        status = json.loads((run / "anchored-s0" / "status.json").read_text())
        assert said[-1].startswith(f"gramlab: {how}; the same command goes on with ")
        assert f"anchored-s0 from step {status['step']}" in said[-1]
        assert status["state"] == "interrupted"
        assert 10 < status["step"] < 50
        assert (run / "anchored-s0" / "states" / f"step_{status['step']:06d}.safetensors").exists()  # nothing is lost

    monkeypatch.setenv("TERM", "xterm-256color")
    with Terminal(200, 60) as terminal:
        with terminal.stderr():
            assert main([str(path), "launcher=local", "launcher.workers=2", "runtime.draw=true"]) == 1
        seen = terminal.ended()
    assert re.search(r"^anchored-s0 +\d+/50 +\S+ +starts\b", "\n".join(seen), re.MULTILINE)
    assert not re.search(r"^\S+-s0 +\d+/50 ", seen[-1], re.MULTILINE)
    assert "blown-s0: failed (exit code 1)" in seen[-1]
    log = (run / "log.txt").read_text()
    assert "blown-s0: failed (exit code 1)" in log
    assert "behind-s0: not started, since blown-s0 failed" in log
    assert tensors(tmp_path / "runs") == tensors(tmp_path / "calm" / "runs")
    tables = [place / "runs" / "tiny" / "results.jsonl" for place in (tmp_path, tmp_path / "calm")]
    assert sorted(tables[0].read_text().splitlines()) == sorted(tables[1].read_text().splitlines())
    assert (run / "report.pdf").exists()


def test_the_time_left_comes_from_what_is_trained_now_alone(tmp_path, tiny_text):
    """A run that goes on begins its bar where it is, else the steps of before would seem to have taken no time."""
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_text(tmp_path, **SECTIONS))
    known = jobs(load(path), fingerprint=lambda data: fingerprint(open_pool(data)))
    assert Overall("tiny", known).n == 0
    for name, step in {"trunk-s0": 10, "anchored-s0": 30}.items():
        folder = next(job.folder for job in known if job.name == name)
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text(json.dumps({"step": step, "seconds": 1.0}) + "\n")
    bar = Overall("tiny", known)
    assert (bar.initial, bar.total) == (10 + 20, 10 + 3 * 40 + 20)
    bar.show({"trunk-s0"}, {"anchored-s0"}, [])
    assert bar.n == 10 + 40


def test_arms_of_equal_content_are_trained_by_one_worker_and_all_have_its_rows(tmp_path, tiny_text, capsys):
    """Also what is anchored to a step of either is there."""
    path = tmp_path / "tiny.yaml"
    anchored = {"from": "same", "gram.weight": 1.0, "gram.teacher_step": 3, "steps": 8}
    arms = {"plain": {}, "same": {}, "behind": anchored}
    path.write_text(tiny_text(tmp_path, arms=arms, evals={**SECTIONS["evals"], "every": 6}))
    assert main([str(path), "launcher=local", "launcher.workers=2"]) == 0
    run = tmp_path / "runs" / "tiny"
    said = (run / "log.txt").read_text()
    assert (run / "plain-s0").resolve() == (run / "same-s0").resolve()
    assert "plain-s0 step 6: knn" in said
    assert "waits" not in said + capsys.readouterr().err
    assert not any(word in said for word in ("same-s0 step 6: knn", "skipped", "again"))
    rows = {
        (row["arm"], row["step"]): row["value"] for row in map(json.loads, read(run / "results.jsonl").splitlines())
    }
    assert rows["plain", 6] == rows["same", 6]
    assert ("behind", 8) in rows


def test_what_another_process_trains_is_waited_for_while_others_go_on(tmp_path, tiny_text, started):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_text(tmp_path))
    own = segments(path)
    with held(own["plain-s0"]):
        process = started(path)
        until(lambda: '"done"' in read(own["anchored-s0"] / "status.json"), process)
        assert not (own["plain-s0"] / "metrics.jsonl").exists()
        waits = f"plain-s0 waits: {own['plain-s0']} is in use by process {os.getpid()}"
        assert read(tmp_path / "runs" / "tiny" / "log.txt").count(waits) == 1
    process.communicate(timeout=120)
    assert process.returncode == 0
    steps = [json.loads(line)["step"] for line in read(own["plain-s0"] / "metrics.jsonl").splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_a_worker_that_is_killed_fails_alone_and_none_outlives_its_launcher(tmp_path, tiny_text, started):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_text(tmp_path, steps=10**6))
    own, run = segments(path), tmp_path / "runs" / "tiny"
    process = started(path)
    until(lambda: all((folder / "metrics.jsonl").exists() for folder in own.values()), process)
    os.kill(int(read(own["plain-s0"] / ".lock")), signal.SIGKILL)
    until(lambda: "plain-s0: failed (ended by SIGKILL)" in read(run / "log.txt"), process)
    assert [(job.state, job.words) for job in standings(run)] == [("failed", "ended by SIGKILL"), ("running", "")]
    process.kill()
    process.communicate()
    while is_held(own["anchored-s0"]):
        time.sleep(0.05)
    assert standings(run)[1].state == "interrupted"


def test_a_worker_that_alone_is_asked_to_leave_is_started_again(tmp_path, tiny_text, started):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_text(tmp_path, steps=60, arms={"plain": {}}))
    (folder,), run = segments(path).values(), tmp_path / "runs" / "tiny"
    process = started(path)
    until((folder / "metrics.jsonl").exists, process)
    first = read(folder / ".lock")
    os.kill(int(first), signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert read(folder / ".lock") != first
    assert "failed" not in read(run / "log.txt")
    assert len(read(folder / "metrics.jsonl").splitlines()) == 60


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_a_machine_without_slurm_is_told_so_before_anything_is_written(tmp_path, tiny_text, monkeypatch, capsys):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_text(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([str(path), "launcher=slurm"]) == 2
    assert capsys.readouterr().err == (
        "gramlab: launcher=slurm: no sbatch here: want a machine of the cluster, or launcher=local\n"
    )
    assert not (tmp_path / "runs").exists()
