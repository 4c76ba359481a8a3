"""The benchmark of the demo: what it cannot measure is told, and never noted."""

import json

import pytest

from benchmarks import demo

pytestmark = pytest.mark.slow  # a run in a process of its own
SETS = {
    "kept": {"size": 32, "count": 24, "split": "val", "name": "rooms"},
    "asked": {"size": 32, "count": 8, "split": "test", "name": "rooms"},
}
EVALS = {"every": 2, "sets": SETS, "tasks": {"knn": {"protocol": "knn", "train": "kept", "test": "asked"}}}


@pytest.fixture
def place(monkeypatch, tmp_path, write_tiny):
    """A tiny experiment in place of the demo, and the folder that one stands in."""
    arms = {"plain": {}, "anchored": {"gram.weight": 2.0}}
    monkeypatch.setattr(demo, "EXPERIMENT", write_tiny(steps=2, arms=arms, baseline="plain", evals=EVALS))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def test_overrides_that_cannot_be_meant_are_refused_in_the_runs_line(place, capfd):
    assert demo.main(["stps=200"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("gramlab: ")
    assert "did you mean steps?" in line
    assert not list(place.iterdir())


def test_a_demo_is_noted_with_its_verdicts_and_not_at_all_without_any(place, capfd):
    assert demo.main(["evals.tasks={}"]) == 1
    assert "gramlab: got a demo that ended without a verdict, so none is noted" in capfd.readouterr().err
    assert not list(place.iterdir())
    assert demo.main([]) == 0
    (row,) = [json.loads(line) for line in (place / "benchmarks.jsonl").read_text().splitlines()]
    assert (row["bench"], row["case"], bool(row["verdicts"])) == ("demo", "as it is", True)
