"""What `gramlab clean` leaves of a sweep: all that its trials, its front and its next trials need."""

import json

import pytest

from harness.cli import main as gramlab
from harness.run import main as run
from harness.sweep import main

pytestmark = pytest.mark.slow


def kept(runs):
    return {path.relative_to(runs) for path in runs.rglob("*") if path.is_file()}


def cleaned(runs, capsys, *words):
    capsys.readouterr()
    assert gramlab(["clean", str(runs), *words]) == 0
    return capsys.readouterr().out


def test_a_sweep_its_front_and_its_next_trials_lose_nothing(write_sweep, record, tmp_path, capsys):
    runs = tmp_path / "runs"
    pruner = {"name": "ThresholdPruner", "args": {"lower": 1e9}, "by": "health.rankme"}
    assert main([str(write_sweep(trials=2))]) == 0
    assert main([str(write_sweep(trials=3, pruner=pruner))]) == 0
    before, found = kept(runs), record()
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete", "pruned"]
    assert cleaned(runs, capsys, "--plan") == "kept for tiny; would free 0 bytes\n"
    assert cleaned(runs, capsys) == "kept for tiny; freed 0 bytes\n"
    assert kept(runs) == before

    capsys.readouterr()
    assert main([str(write_sweep(trials=4, pruner=pruner))]) == 0
    assert "trunk-s0: done at step 2, skipped" in capsys.readouterr().err
    assert record()["trials"][:3] == found["trials"]
    (arm, *_) = record()["front"]
    assert run([str(runs / "tiny" / "front" / f"{arm}.yaml"), "seeds=[0]"]) == 0  # the sweep's own: trained already
    assert f"{arm}-s0: done at step 6, skipped" in capsys.readouterr().err


def test_of_a_sweep_that_was_moved_away_all_goes_but_what_another_one_shares(write_sweep, tmp_path, capsys):
    runs = tmp_path / "runs"
    assert main([str(write_sweep(trials=1))]) == 0
    sampler = {"name": "RandomSampler", "args": {"seed": 1}}
    assert main([str(write_sweep({"name": "other"}, trials=1, sampler=sampler))]) == 0
    own = json.loads((runs / "tiny" / "experiment.json").read_text())["jobs"]
    shared = {job["segment"] for job in json.loads((runs / "other" / "experiment.json").read_text())["jobs"].values()}
    (runs / "tiny").rename(tmp_path / "away")
    plan = cleaned(runs, capsys, "--plan")
    gone = {job["segment"] for job in own.values()} - shared
    assert gone
    assert {line.split(":")[0] for line in plan.splitlines()[:-1]} == {str(runs / ".segments" / name) for name in gone}
    assert cleaned(runs, capsys) == plan.replace("would free", "freed")
    assert main([str(write_sweep({"name": "other"}, trials=2, sampler=sampler))]) == 0
