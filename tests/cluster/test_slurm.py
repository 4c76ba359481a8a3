"""An experiment on a real Slurm: the bits of one process, failures, the time limit, and data on the node's disk."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from harness import status
from harness.run import main

pytestmark = pytest.mark.skipif("GRAMLAB_SLURM" not in os.environ, reason="`make cluster` starts a Slurm")

HANGS = 1500  # seconds without an end
ROOMS = {"size": 32, "split": "val", "name": "rooms"}


def photos(folder: Path) -> Path:
    """Twelve small pictures of two classes."""
    draws = np.random.default_rng(0)
    for number in range(12):
        path = folder / ("first", "second")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draws.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    return folder


def sections(root: Path) -> dict[str, object]:
    return {
        "steps": 8,
        "trunk": {"steps": 4},
        "arms": {"plain": {}, "same": {}, "blown": {"optimizer.lr": 1e30}, "behind": {"from": "blown", "at": 6}},
        "data": {"sources": {"photos": {"kind": "folder", "root": str(root)}}},
        "evals": {
            "every": 4,
            "sets": {"kept": {**ROOMS, "count": 24}, "asked": {**ROOMS, "count": 8, "split": "test"}},
            "tasks": {"knn": {"protocol": "knn", "train": "kept", "test": "asked"}},
        },
    }


def tensors(folder: Path) -> dict[str, dict[str, bytes]]:
    """All weights and states below a folder, to the bit."""
    return {
        str(path.relative_to(folder)): {name: x.numpy().tobytes() for name, x in load_file(path).items()}
        for path in sorted((folder / ".segments").rglob("*.safetensors"))
    }


def queue() -> str:
    return subprocess.run(["squeue", "--noheader", "--format=%i"], capture_output=True, text=True, check=True).stdout


def until(happened: Callable[[], bool]) -> None:
    """Wait: a job that is told to leave before it made a step is queued again, more than once on a slow machine."""
    end = time.monotonic() + HANGS
    while not happened():
        assert time.monotonic() < end, queue()
        time.sleep(0.2)


@pytest.fixture(autouse=True)
def empty_queue() -> Iterator[None]:
    """A test leaves no job behind."""
    yield
    if left := queue().split():
        subprocess.run(["scancel", *left], check=True)
        until(lambda: not queue())


def test_a_graph_on_slurm_leaves_what_one_process_leaves(tmp_path, tiny_text, capsys):
    root, path, calm = photos(tmp_path / "photos"), tmp_path / "tiny.yaml", tmp_path / "calm.yaml"
    path.write_text(tiny_text(tmp_path, **sections(root)))
    calm.write_text(tiny_text(tmp_path / "calm", **sections(root)))
    assert main([str(calm)]) == 1  # an arm blows up
    run, stage = tmp_path / "runs" / "tiny", tmp_path / "node"

    command = [str(path), "launcher=slurm", f"launcher.stage={stage}", "launcher.flags={nice: 1}", "runtime.draw=true"]
    assert main(command) == 0
    assert "4 Slurm jobs submitted, 0 were in the queue" in capsys.readouterr().err
    assert main(command) == 0
    assert "0 Slurm jobs submitted, 4 were in the queue" in capsys.readouterr().err
    assert status.main([str(run)]) == 0
    assert "for trunk-s0" in capsys.readouterr().out
    until(lambda: not queue())

    assert status.main([str(run)]) == 1
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert " done " in rows["plain-s0"]
    assert " done " in rows["same-s0"]  # by the job of plain-s0
    assert (run / "same-s0").resolve() == (run / "plain-s0").resolve()
    assert " failed " in rows["blown-s0"]
    assert " blocked " in rows["behind-s0"]
    assert rows["tiny:"] == "tiny: 3 done, 1 failed, 1 blocked"
    assert tensors(tmp_path / "runs") == tensors(tmp_path / "calm" / "runs")
    tables = [place / "runs" / "tiny" / "results.jsonl" for place in (tmp_path, tmp_path / "calm")]
    assert sorted(tables[0].read_text().splitlines()) == sorted(tables[1].read_text().splitlines())
    assert (run / "report.pdf").exists()
    assert len([*stage.glob("*/copy/photos")]) == 1  # copied once


def test_a_job_that_meets_its_time_limit_saves_its_state_and_goes_on_in_the_queue(tmp_path, tiny_text):
    """Slurm counts in minutes and may tell a job to leave one early: here not before it has begun to listen."""
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_text(tmp_path, steps=10**6, arms={"plain": {}}))
    assert main([str(path), "launcher=slurm", "launcher.minutes=2", "launcher.grace=45"]) == 0
    run = tmp_path / "runs" / "tiny"
    number = json.loads((run / "launch.json").read_text())["slurm"]["plain-s0"]
    log = run / "slurm" / f"{number}_0_log.out"
    until(lambda: log.exists() and "plain-s0: goes on from step" in log.read_text())
    said = log.read_text()
    step = int(said.partition("plain-s0: goes on from step ")[2].split()[0])
    assert "DUE TO JOB REQUEUE" in said
    assert 0 < step < 10**6
    assert (run / "plain-s0" / "states" / f"step_{step:06d}.safetensors").exists()  # no step was lost


def test_what_slurm_does_not_take_is_told_in_one_line_and_nothing_stays_in_the_queue(tmp_path, tiny_text, capsys):
    path = tmp_path / "tiny.yaml"
    path.write_text(tiny_text(tmp_path))
    assert main([str(path), "launcher=slurm", "launcher.partition=nowhere"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("gramlab: Slurm does not take the job of plain-s0: ")
    assert "nowhere" in told or "partition" in told
    assert not queue()
