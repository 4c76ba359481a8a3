"""A short soak: a real run that is killed again and again ends as one that nothing disturbed, and a change is seen."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from benchmarks.soak import Kill, drawn, soak
from benchmarks.soaking.equal import differences, left
from benchmarks.soaking.moments import MOMENTS

SHORT = (
    "steps=9", "evals.every=9", "evals.pictures=0", "runtime.workers=1", "arms={anchored: {gram.weight: 2.0, "
    "gram.start_step: 5, gram.update_every: 3}}", "evals.tasks={knn: {protocol: knn, train: kept, test: asked}}",
)  # fmt: skip


@pytest.mark.slow  # a run from its beginning to its end twice
def test_a_run_that_is_killed_at_chosen_moments_ends_bit_for_bit_as_one_that_was_not(tmp_path):
    kills = [
        Kill("run", "state", "all", 1, 0.5),
        Kill("run", "renewal", "main", 0, 0.5),
        Kill("run", "evaluation", "all", 0, 0.1),
    ]
    found = soak(tmp_path, kills, each=3, words=SHORT)
    assert found.wrong == {}
    assert sorted(one.kill.kind for one in found.fallen) == sorted(one.kind for one in kills)


@pytest.mark.slow
def test_so_does_one_of_two_processes_of_which_the_first_or_their_torchrun_is_killed(tmp_path):
    kills = [Kill("parts", "part", "first", 0, 0.5), Kill("parts", "renewal", "torchrun", 0, 0.5)]
    found = soak(tmp_path, kills, each=2, words=SHORT)
    assert found.wrong == {}
    assert sorted(one.kill.kind for one in found.fallen) == sorted(one.kind for one in kills)


@pytest.fixture
def run(tmp_path):
    """Two folders of a run that is nothing but its files, alike but for times."""
    for name in ("one", "other"):
        folder = tmp_path / name / ".segments" / "0123"
        folder.mkdir(parents=True)
        (tmp_path / name / "soak").mkdir()
        (tmp_path / name / "soak" / "plain-s0").symlink_to("../.segments/0123")
        save_file({"a": np.arange(3.0)}, folder / "step_000001.safetensors", {"step": "1"})
        (folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 0.5, "seconds": len(name)}) + "\n")
        (folder / "status.json").write_text(json.dumps({"state": "done", "seconds": len(name)}))
    return tmp_path / "one", tmp_path / "other"


def test_times_alone_make_no_difference(run):
    one, other = run
    assert differences(left(one), left(other)) == []


def test_one_bit_of_a_weight_a_number_of_a_curve_and_a_missing_file_are_seen(run):
    one, other = run
    weights = other / ".segments" / "0123" / "step_000001.safetensors"
    changed = load_file(weights)
    changed["a"].view(np.uint64)[0] ^= 1
    save_file(changed, weights, {"step": "1"})
    curve = other / ".segments" / "0123" / "metrics.jsonl"
    curve.write_text(curve.read_text().replace("0.5", "0.6"))
    (other / ".segments" / "0123" / "status.json").unlink()
    shutil.rmtree(other / "soak")
    told = differences(left(one), left(other))
    assert [line.partition(":")[0].rpartition("/")[2] for line in told] == [
        "metrics.jsonl", "status.json", "step_000001.safetensors", "plain-s0"
    ]  # fmt: skip


def test_the_same_seed_draws_the_same_kills_and_every_kind_is_among_fifty():
    assert drawn(50, 7) == drawn(50, 7) != drawn(50, 8)
    assert {one.kind for one in drawn(50, 7)} == {*MOMENTS, "time"}
