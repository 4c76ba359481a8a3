"""What is to be told of a run, from files as runs leave them."""

from __future__ import annotations

import json

from harness.trackers.pieces import Lane, subjects

JOBS = {
    "plain-s0": {"segment": "aaaa", "start": 0, "stop": 4, "parent": None},
    "late-s0": {"segment": "bbbb", "start": 2, "stop": 4, "parent": "plain-s0"},
}
KNN = {"eval": "knn", "dataset": "a", "split": "val", "protocol": "quick", "metric": "top1", "value": 0.5}
ROWS = [{**KNN, "size": size} for size in (32, 64)]


def told(folder, name):
    """Steps and values of a job's pieces, in their order."""
    [lane] = subjects(folder, only=[name])
    assert isinstance(lane, Lane)
    found = []

    class Keeper:
        def scalars(self, points):
            found.extend(points)

    for piece in lane.pieces({}):
        piece.tell(Keeper())
    return found


def write(folder):
    """A run whose segments are longer than its jobs, with damaged lines."""
    run = folder / "run"
    run.mkdir()
    (run / "experiment.json").write_text(json.dumps({"jobs": JOBS, "evaluations": "cafe"}))
    for segment, steps in (("aaaa", range(1, 7)), ("bbbb", range(3, 6))):
        place = folder / ".segments" / segment
        place.mkdir(parents=True)
        lines = [json.dumps({"step": step, "loss": float(step), "lr": None}) for step in steps]
        (place / "metrics.jsonl").write_text("\n".join([*lines[:2], "damaged", *lines[2:], '{"step": 9, "lo']))
    return run


def test_an_arm_has_of_its_parent_what_lies_before_the_fork_and_no_more_than_its_own_steps(tmp_path):
    run = write(tmp_path)
    steps = {name: [step for step, _ in told(run, name)] for name in JOBS}
    assert steps == {"plain-s0": [1, 2, 3, 4], "late-s0": [1, 2, 3, 4]}
    ours = (tmp_path / ".segments" / "bbbb" / "metrics.jsonl").read_text()
    (tmp_path / ".segments" / "bbbb" / "metrics.jsonl").write_text(ours.replace('"loss"', '"other"'))
    assert [[*values] for _, values in told(run, "late-s0")] == [["train/loss"]] * 2 + [["train/other"]] * 2


def test_measures_of_one_name_are_told_apart_by_all_else(tmp_path):
    run = write(tmp_path)
    for step in (2, 4, 6):
        mark = tmp_path / ".segments" / "aaaa" / f"step_{step:06d}" / "evaluated-cafe.json"
        mark.parent.mkdir()
        mark.write_text(json.dumps({"rows": ROWS if step == 4 else ROWS[:1]}))
    found = [(step, [*values]) for step, values in told(run, "plain-s0") if "train/loss" not in values]
    both = [f"evals/knn/a/top1 val quick {size} px" for size in (32, 64)]
    assert found == [(2, ["evals/knn/a/top1"]), (4, both)]


def test_a_run_without_a_record_has_nothing_to_tell_yet(tmp_path):
    assert [*subjects(tmp_path)] == []
