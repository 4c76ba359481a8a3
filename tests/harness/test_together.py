"""Runs of which each process holds a part (`runtime.shard`): they leave what one process leaves, and go on anywhere."""

import json

import pytest
import torch

from evals.backbones import states
from harness import follow
from harness.config import load
from harness.run import main, run

ROOMS = {"size": 32, "split": "val", "name": "rooms"}
EVALS = {
    "every": 3,
    "sets": {"kept": {**ROOMS, "count": 24}, "asked": {**ROOMS, "count": 8, "split": "test"}},
    "tasks": {"knn": {"protocol": "knn", "train": "kept", "test": "asked"}},
}
ARMS = {
    "anchored": {"gram.weight": 2.0, "gram.start_step": 2, "gram.update_every": 2, "gram.resolution": 2.0},
    "taught": {"from": None, "distillation.teacher": "anchored", "ibot.mask_probability": 0.5},
}
SHARD = "runtime.shard=true"


def shared(ranks, path, words, arms=None):
    """What torchrun starts: the first process runs the experiment, the others follow."""
    experiment = load(path, words, arms=arms)
    if ranks.first:
        assert run(experiment) == 0
        follow.dismiss(ranks)
    else:
        assert follow.follow(ranks, "cpu") == 0


def newest(folder):
    """The newest states of an experiment's arms."""
    views = (view for view in folder.iterdir() if view.is_symlink())
    return {view.name: sorted(view.glob("states/*.safetensors"))[-1] for view in views}


def assert_alike(one, other, *, exactly=False):
    (ours, theirs) = (states.read(path) for path in (one, other))
    assert theirs.header.step == ours.header.step
    assert theirs.tensors.keys() == ours.tensors.keys()
    for key, tensor in ours.tensors.items():
        room = {"rtol": 0, "atol": 0} if exactly else {"rtol": 1e-3, "atol": 5e-5}
        torch.testing.assert_close(theirs.tensors[key], tensor, msg=key, **room)


@pytest.mark.slow
def test_processes_that_hold_a_part_each_go_on_where_one_stopped_and_one_where_they_did(
    write_tiny, tmp_path, in_processes
):
    path = write_tiny(trunk={"steps": 2}, arms=ARMS, evals=EVALS, runtime={"threads": 1, "log_every": 1})
    alone, together = (f"runtime.folder={tmp_path / name}" for name in ("alone", "together"))
    assert main([str(path), alone]) == 0
    assert main([str(path), together, "steps=4", "--arms", "anchored"]) == 0
    in_processes(shared, 2, path, [together, SHARD, "steps=5"], ["anchored"])  # from a file, and to a folder
    in_processes(shared, 2, path, [together, SHARD])  # from a folder
    one, other = (newest(tmp_path / name / "tiny") for name in ("alone", "together"))
    assert set(one) == {"trunk-s0", "anchored-s0", "taught-s0"}
    for name, state in one.items():
        assert other[name].is_dir() == (name != "trunk-s0")
        assert_alike(state, other[name])
    rows = [json.loads(line) for line in (tmp_path / "together/tiny/results.jsonl").read_text().splitlines()]
    assert {(row["arm"], row["step"]) for row in rows} >= {("anchored", 6), ("taught", 3), ("taught", 6)}
    assert main([str(path), together, "steps=7", "--arms", "anchored"]) == 0  # from a folder to a file
    assert newest(tmp_path / "together/tiny")["anchored-s0"].name == "step_000007.safetensors"


@pytest.mark.slow
def test_what_is_not_finite_is_passed_over_by_all_and_a_run_that_was_cut_off_ends_to_the_bit(
    write_tiny, tmp_path, in_processes
):
    wild = {"wild": {"optimizer.lr": 1e30, "optimizer.clip": None}}
    arms = {"calm": {"gram.weight": 2.0, "gram.start_step": 1, "gram.update_every": 2}}
    path = write_tiny(arms=wild | arms, evals={"tasks": {}}, steps=4)
    whole, parted = (f"runtime.folder={tmp_path / name}" for name in ("whole", "parted"))
    in_processes(shared, 2, path, [whole, SHARD])
    told = json.loads((tmp_path / "whole/tiny/wild-s0/bad_steps.json").read_text())
    assert [one["step"] for one in told["steps"]] == [1, 2, 3]
    in_processes(shared, 2, path, [parted, SHARD, "steps=3"])
    in_processes(shared, 2, path, [parted, SHARD])
    one, other = (newest(tmp_path / name / "tiny") for name in ("whole", "parted"))
    for name, state in one.items():
        assert_alike(state, other[name], exactly=True)


@pytest.mark.parametrize("plan", [False, True])
def test_one_process_can_plan_it_but_not_train_it(write_tiny, capsys, plan):
    path = write_tiny(arms={"plain": {}}, evals={"tasks": {}})
    assert main([str(path), SHARD, *(["--plan"] if plan else [])]) == (0 if plan else 2)
    said = "gramlab: got one process for runtime.shard=true: want several of torchrun"
    assert (said in capsys.readouterr().err) == (not plan)
