"""`torchrun` and the main job: processes that share steps leave what one leaves, and refuse in one line."""

import hashlib
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from harness.run import main
from tests import processes

ROOT = Path(__file__).resolve().parents[2]
ROOMS = {"size": 32, "split": "val", "name": "rooms"}
EVALS = {
    "every": 3,
    "sets": {"kept": {**ROOMS, "count": 24}, "asked": {**ROOMS, "count": 8, "split": "test"}},
    "tasks": {name: {"protocol": name, "train": "kept", "test": "asked"} for name in ("knn", "segmentation", "health")},
}
BEST = {"gram.weight": 2.0, "gram.teacher": "best_dense", "gram.measure": "dse", "gram.measure_every": 1}
BEST |= {"gram.ring": 2, "gram.measure_images": 8, "gram.update_every": 2, "gram.start_step": 3}
ARMS = {
    "anchored": {"gram.weight": 2.0, "gram.start_step": 2, "gram.resolution": 2.0},
    "best": BEST,
    "taught": {"from": None, "distillation.teacher": "anchored", "ibot.mask_probability": 0.5},
}


def shared(path, *words):
    """What two processes of `torchrun` make of an experiment."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    command += ["harness/run.py", str(path), *words]
    quiet = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=300)


def forked(tmp_path, path, *words):
    """The same by processes that save themselves the imports; how the first one ended."""
    first, other = processes.together(2, partial(main, [str(path), *words]), tmp_path / "said")
    assert (other.out, other.err) == ("", "")
    return first


def weights(folder):
    return {view.name: load_file(sorted(view.glob("states/*"))[-1]) for view in folder.iterdir() if view.is_symlink()}


def evaluated(folder, arm):
    """The rows of an arm's first step, and what else was left of its evaluation."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    step = folder / f"{arm}-s0" / "step_000000"
    left = [path for path in step.rglob("*.np*") if path.is_file()]
    files = {str(path.relative_to(step)): hashlib.sha256(path.read_bytes()).hexdigest() for path in left}
    return [row for row in rows if (row["arm"], row["step"]) == (arm, 0)], files


@pytest.mark.slow
def test_two_processes_go_on_where_one_stopped_and_leave_what_one_leaves(write_tiny, tmp_path):
    path = write_tiny(trunk={"steps": 2}, arms=ARMS, evals=EVALS, runtime={"threads": 1, "log_every": 1})
    alone, together = (f"runtime.folder={tmp_path / name}" for name in ("alone", "together"))
    assert main([str(path), alone]) == 0
    assert main([str(path), together, "steps=4", "--arms", "anchored"]) == 0
    done = shared(path, together)
    assert done.returncode == 0, done.stderr
    assert "processes: 2 share each step" in done.stdout
    assert "anchored-s0: goes on from step 4" in done.stdout + done.stderr
    one, other = (weights(tmp_path / name / "tiny") for name in ("alone", "together"))
    assert set(one) == {"trunk-s0", "anchored-s0", "best-s0", "taught-s0"}
    begun = [evaluated(tmp_path / name / "tiny", "taught") for name in ("alone", "together")]
    assert begun[0] == begun[1]  # the weights that it begins with are no matter of rounding
    assert {row["eval"] for row in begun[0][0]} == {"knn", "segmentation", "health"}
    for name, tensors in one.items():
        assert tensors.keys() == other[name].keys()
        for key, tensor in tensors.items():
            torch.testing.assert_close(other[name][key], tensor, rtol=1e-3, atol=5e-5, msg=key)


@pytest.mark.slow
def test_an_image_that_one_process_cannot_read_ends_all_in_one_line_or_is_skipped_by_all(write_tiny, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(8):
        Image.new("RGB", (40, 40), (number * 20, 90, 60)).save(photos / f"{number}.png")
    path = write_tiny(arms={"plain": {}}, evals={"tasks": {}}, runtime={"threads": 1})
    text = path.read_text()
    words = [f"data.sources={{photos: {{kind: folder, root: {photos}}}}}", "data.batch_size=8", "steps=2"]
    whole = (photos / "5.png").read_bytes()
    (photos / "5.png").write_bytes(whole[:40] + bytes(len(whole) - 40))
    done = forked(tmp_path, path, *words)
    assert path.read_text() == text
    assert done.code == 2
    said = [line for line in done.err.splitlines() if line.startswith("gramlab:")]
    assert len(said) == 1, done.err
    assert "5.png" in said[0]
    words += ["data.unreadable=skip", "data.unreadable_share=0.2"]
    done = forked(tmp_path, path, *words)
    assert done.code == 0, done.err
    (told,) = (tmp_path / "runs" / "tiny").glob("*/skipped.json")
    assert [one["image"] for one in json.loads(told.read_text())["skipped"]] == ["5.png"]
    alone = f"runtime.folder={tmp_path / 'alone'}"
    assert main([str(path), *words, alone]) == 0
    one, other = (weights(tmp_path / name / "tiny")["plain-s0"] for name in ("alone", "runs"))
    assert all(torch.allclose(other[key], tensor, rtol=1e-3, atol=5e-5) for key, tensor in one.items())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data.batch_size=3"], "data.batch_size=3 over 2 processes: want a multiple of 2"),
        (
            ["launcher.name=local"],
            "got 2 processes of torchrun for launcher.name=local: want one",
        ),
        (["steps=many"], "steps=many"),
    ],
)
@pytest.mark.slow
def test_what_several_processes_cannot_do_is_refused_before_anything_is_written(write_tiny, tmp_path, words, said):
    done = forked(tmp_path, write_tiny(arms={"plain": {}}, evals={"tasks": {}}), *words)
    lines = [line for line in done.err.splitlines() if line.startswith("gramlab:")]
    assert len(lines) == 1, done.err
    assert said in lines[0]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_steps_that_are_not_finite_are_passed_over_by_all_processes(write_tiny, tmp_path):
    path = write_tiny(arms={"wild": {"optimizer.lr": 1e30, "optimizer.clip": None}}, evals={"tasks": {}}, steps=4)
    done = forked(tmp_path, path)
    assert done.code == 0, done.err
    told = json.loads((tmp_path / "runs/tiny/wild-s0/bad_steps.json").read_text())
    assert [one["step"] for one in told["steps"]] == [1, 2, 3]
