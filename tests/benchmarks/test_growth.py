"""The benchmarks of growth and of states measure what they tell, and note it."""

import json

import pytest

from benchmarks import checkpoints, growth


@pytest.fixture
def noted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda: [json.loads(line) for line in (tmp_path / "benchmarks.jsonl").read_text().splitlines()]


def test_steps_of_each_size_are_measured_and_noted(noted, monkeypatch, capsys):
    monkeypatch.setitem(growth.STEPS, "batch", [{"data.batch_size": size} for size in (2, 32)])
    assert growth.main(["--axes", "batch", "--seconds", "0", "--device", "cpu"]) == 0
    (row,) = noted()
    assert (row["case"], row["sizes"]) == ("batch", [2, 32])
    assert len([seconds for seconds in row["seconds"] if seconds > 0]) == 2
    assert len(capsys.readouterr().out.splitlines()) == 4


def test_states_are_written_checked_and_read(noted):
    assert checkpoints.main(["--model", "nano", "--seconds", "0"]) == 0
    (row,) = noted()
    assert row["mib"] > 5
    assert all(seconds > 0 for seconds in row["seconds"].values())
    assert row["ratio"] == pytest.approx(row["seconds"]["write plainly"] / row["seconds"]["write"])
