"""Forks are bit for bit the run that was not forked; segments are shared; what was passed by is trained again."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from common.records import CurvePoint, read_lines
from harness.beginning import fresh_state
from harness.checkpoint import export_weights, save_state
from harness.graph import jobs
from harness.job_folder import is_done, snapshot_folder, state_path, step_folder
from harness.kept import faults
from harness.mending import mend
from harness.run import main
from harness.train import train
from tests.processes import Command

pytestmark = pytest.mark.slow  # whole small runs

ROOT = Path(__file__).resolve().parents[2]
CPU = torch.device("cpu")
INERT = {"teacher.temperature_warmup_steps": 2}  # another segment, and past step 2 the same training
GRAM = {"gram.weight": 2.0, "gram.update_every": 2}


def nothing(job, step, folder):
    return {}


@pytest.fixture
def run(tiny, change, pool, tmp_path):
    """Trains the jobs of the tiny experiment with these arms, mending first; the jobs by arm."""

    def of(arms, *, folder=tmp_path, evaluate=nothing, **more):
        values = {"runtime.folder": str(folder), "trunk.steps": 3, "arms": arms, "steps": 8, **more}
        found = jobs(change(tiny, values), fingerprint=lambda data: "24 rooms")
        broken = faults(found)
        for job in found:
            mend(job, [fault for fault in broken if fault.job == job], pool, device=CPU)
            train(job, pool, evaluate, device=CPU)
        return {job.arm: job for job in found}

    return of


def end(job):
    return load_file(state_path(job, job.stop))


def curve(job, after):
    rows = read_lines(job.folder / "metrics.jsonl", CurvePoint).rows
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows if row["step"] > after]


@pytest.mark.parametrize("gram", [{}, GRAM, {"gram.weight": 2.0, "gram.teacher": "ema"}], ids=str)
def test_an_arm_that_changes_nothing_continues_as_its_parent_would_have(run, tmp_path, same, gram):
    """At a fork in a trunk, in an arm, and at a fork of a fork."""
    arms = {
        "parent": gram,
        "of_arm": {"from": "parent", "at": 5, **INERT},
        "of_fork": {"from": "of_arm", "at": 7, "teacher.temperature_warmup_steps": 3},
        "of_trunk": {**gram, **INERT},
        "goes_on": {"from": "parent", "steps": 8, "at": 5},
    }
    found = run(arms)
    names = ("parent", "of_trunk", "of_arm", "of_fork")
    assert len({found[name].identity for name in names}) == 4
    for name in names[1:]:
        assert same(end(found[name]), end(found["parent"])), name
        assert curve(found[name], 0) == curve(found["parent"], found[name].start), name
    assert found["goes_on"].identity == found["parent"].identity
    straight = run(
        {"alone": {**gram, "gram.start_step": 3} if gram else {}}, folder=tmp_path / "alone", **{"trunk.steps": 0}
    )
    assert same(end(straight["alone"]), end(found["parent"]))


def test_a_chain_goes_on_with_the_gram_teacher_of_its_parent(run, same):
    found = run({"a": {"gram.weight": 2.0}, "b": {"from": "a", "steps": 10, "optimizer.lr": 5e-4}})

    def anchor(job):
        return {k: v for k, v in end(job).items() if k.startswith("anchor.")}

    assert len(anchor(found["a"])) > 20
    assert same(anchor(found["a"]), anchor(found["b"]))


def test_an_arm_that_switches_gram_off_carries_no_gram_teacher(run):
    found = run({"a": {"gram.weight": 2.0}, "b": {"from": "a", "steps": 10, "gram.weight": 0.0}})
    assert not [key for key in end(found["b"]) if key.startswith("anchor.")]


def test_a_fork_of_a_fork_may_anchor_to_the_trunk(run, same, take_steps, tiny):
    late = {"from": "plain", "at": 6, "gram.weight": 2.0, "gram.start_step": 7, "gram.teacher_step": 2}
    found = run({"plain": {}, "late": late})
    kept = take_steps(tiny, 2)[0].teacher.backbone.state_dict()
    assert same(
        {f"anchor.{k}": v for k, v in kept.items()}, {k: v for k, v in end(found["late"]).items() if "anchor" in k}
    )


@pytest.mark.parametrize("given", [False, True])
def test_an_arm_may_anchor_to_the_weights_that_training_started_from(
    run, same, take_steps, tiny, change, tmp_path, given
):
    """At a fork of a fork, resumed after it was cut off, and with a trunk of which no first state is left."""
    values = {}
    if given:
        save_state(take_steps(tiny, 1, seed=7)[0], tmp_path / "state.safetensors", identity="x")
        values["trunk.checkpoint"] = str(tmp_path / "start.safetensors")
        export_weights(tmp_path / "state.safetensors", tmp_path / "start.safetensors", dtype=torch.float32)
        weights = load_file(tmp_path / "start.safetensors")
        began = {
            k.removeprefix("teacher.backbone."): v for k, v in weights.items() if k.startswith("teacher.backbone.")
        }
    else:
        began = fresh_state(tiny, 0, CPU).teacher.backbone.state_dict()
    late = {"from": "plain", "at": 6, "gram.weight": 2.0, "gram.start_step": 6, "gram.teacher": "start"}
    arms = {"plain": {}, "late": late, "child": {"from": "late", "steps": 10, "optimizer.lr": 5e-4}}
    found = run(arms, **values)
    for name in ("late", "child"):
        anchor = {k.removeprefix("anchor."): v for k, v in end(found[name]).items() if k.startswith("anchor.")}
        assert same(anchor, began), name
    again = run({"plain": {}, "late": {**late, "steps": 7}}, folder=tmp_path / "again", **values)
    assert again["late"].identity == found["late"].identity
    again = run({"plain": {}, "late": late}, folder=tmp_path / "again", **values)
    assert same(end(again["late"]), end(found["late"]))


def test_a_second_experiment_with_the_same_trunk_trains_none_of_it_again(run, checksums, tmp_path):
    first = run({"plain": {}, "a": GRAM})
    before = checksums(first["trunk"].folder)
    second = run({"b": {"gram.weight": 1.0}, "same": GRAM}, name="second")
    assert second["trunk"].folder == first["trunk"].folder
    assert second["same"].folder == first["a"].folder
    assert checksums(first["trunk"].folder) == before
    for name in ("trunk-s0", "b-s0", "same-s0"):
        assert (tmp_path / "second" / name / "step_000003").exists() == (name == "trunk-s0")
        assert (tmp_path / "second" / name / "metrics.jsonl").is_file()


def test_a_fork_that_was_passed_by_is_trained_again_from_the_nearest_state_and_told(run, same, tmp_path, tiny, change):
    whole = run({"plain": {}, "late": {"from": "plain", "at": 6, **GRAM}}, folder=tmp_path / "whole")
    run({"plain": {}}, **{"runtime.checkpoint_every": 1})  # kept are the states of steps 7 and 8
    arms = {"plain": {}, "late": {"from": "plain", "at": 6, **GRAM}}
    values = {"runtime.folder": str(tmp_path), "trunk.steps": 3, "arms": arms, "steps": 8}
    (fault,) = faults(jobs(change(tiny, values), fingerprint=lambda data: "24 rooms"))
    assert fault.words.endswith("step_000006.safetensors is missing; made again by steps 0–6 of plain-s0")
    found = run(arms)
    assert same(end(found["late"]), end(whole["late"]))
    assert state_path(found["plain"], 6).exists()


def test_a_gram_teacher_of_a_step_that_was_passed_by_is_made_again(run, same, tmp_path):
    arms = {"early": {"gram.weight": 2.0, "gram.start_step": 4, "gram.teacher_step": 1}}
    whole = run(arms, folder=tmp_path / "whole")
    found = run({"plain": {}})
    assert not snapshot_folder(found["trunk"], 1).exists()
    assert same(end(run(arms, name="second")["early"]), end(whole["early"]))


def test_the_last_step_of_a_shorter_arm_of_a_longer_segment_is_made_again(run, same, tmp_path):
    long = run({"a": GRAM}, **{"runtime.checkpoint_every": 1, "evals.every": 4})
    assert not step_folder(long["a"], 6).exists()
    seen = []
    short = run(
        {"a": GRAM}, name="short", steps=6, evaluate=lambda job, step, folder: seen.append((job.arm, step)) or {}
    )
    assert short["a"].folder == long["a"].folder
    assert is_done(short["a"])
    assert ("a", 6) in seen
    whole = run({"a": GRAM}, steps=6, folder=tmp_path / "whole")
    one, other = (load_file(step_folder(found["a"], 6) / "weights.safetensors") for found in (short, whole))
    assert same(one, other)


def test_states_that_arms_fork_from_outlive_the_newest(run):
    found = run({"plain": {}, "late": {"from": "plain", "at": 5, **GRAM}}, **{"runtime.checkpoint_every": 1})
    states = sorted(path.name for path in (found["plain"].folder / "states").glob("*.safetensors"))
    assert states == [f"step_{step:06d}.safetensors" for step in (5, 7, 8)]


# --- by the command

SETS = {
    "kept": {"size": 32, "count": 24, "split": "val", "name": "rooms"},
    "asked": {"size": 32, "count": 8, "split": "test", "name": "rooms"},
}
SECTIONS = {
    "steps": 6,
    "trunk": {"steps": 4},
    "evals": {"every": 2, "sets": SETS, "tasks": {"knn": {"protocol": "knn", "train": "kept", "test": "asked"}}},
}


def rows(folder):
    found = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return {(row["arm"], row["step"]): row["value"] for row in found}


def test_equal_arms_are_trained_and_evaluated_once_and_both_have_their_rows(write_tiny, capsys, tmp_path):
    path = write_tiny(**SECTIONS, arms={"plain": {}, "one": GRAM, "other": GRAM})
    assert main([str(path), "runtime.draw=true"]) == 0
    out, log = capsys.readouterr()
    assert "arms anchored, one, other are equal" not in out
    assert "arms one, other are equal in all that shapes a result: trained once" in out
    assert "other-s0: done at step 6, skipped" in log
    found = rows(tmp_path / "runs" / "tiny")
    assert found["one", 6] == found["other", 6]
    assert (tmp_path / "runs" / "tiny" / "report.pdf").is_file()


def test_another_experiment_takes_over_segments_and_their_results(write_tiny, capsys, tmp_path):
    path = write_tiny(**SECTIONS, arms={"plain": {}, "anchored": GRAM})
    assert main([str(path)]) == 0
    capsys.readouterr()
    assert main([str(path), "name=second", "--plan"]) == 0
    assert "trunk" in (out := capsys.readouterr().out)
    assert out.count("done, in the store") == 3
    assert [path.name for path in (tmp_path / "runs" / "second").iterdir()] == ["plan.pdf"]
    assert main([str(path), "name=second"]) == 0
    log = capsys.readouterr().err
    assert "was measured before; 1 of its 1 rows added" in log
    assert " step 2: knn" not in log
    assert rows(tmp_path / "runs" / "second") == rows(tmp_path / "runs" / "tiny")
    shutil.rmtree(tmp_path / "runs" / "tiny")
    assert main([str(path)]) == 0
    assert rows(tmp_path / "runs" / "tiny") == rows(tmp_path / "runs" / "second")


def test_two_experiments_at_once_train_what_they_share_once(write_tiny, tmp_path):
    """The second waits for the trunk that the first is at, and forks at a step of it that the first has no use for."""
    path = write_tiny(**{**SECTIONS, "steps": 42, "trunk": {"steps": 40}}, arms={"plain": {}, "one": GRAM})
    early = {"name": "early", "trunk.steps": 30, "steps": 32}
    words = ([], [f"{key}={value}" for key, value in early.items()])
    runs = [Command("harness/run.py", path, *own, folder=tmp_path) for own in words]
    logs = [run.communicate(timeout=300)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], logs
    lines = "".join(logs).splitlines()
    for step in range(0, 30, 2):
        assert len([line for line in lines if f"trunk-s0 step {step}: knn" in line]) == 1, step
    alone = tmp_path / "alone"
    assert main([str(path), *words[1], f"runtime.folder={alone}"]) == 0
    assert rows(alone / "early") == rows(tmp_path / "runs" / "early")
