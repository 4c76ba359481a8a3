"""The benchmark of the training step: it takes a step of both kinds, whose losses agree, and notes what it measured."""

import json
import subprocess

import pytest
import torch

from benchmarks import step


@pytest.mark.slow
def test_a_step_of_nano_is_measured_and_noted(tmp_path, monkeypatch, capsys):
    commands, run = [], subprocess.run
    monkeypatch.setattr(step.subprocess, "run", lambda told, **how: commands.append(told) or run(told, **how))
    monkeypatch.chdir(tmp_path)
    assert step.main(["--model", "nano", "--gram", "off", "--seconds", "0", "--device", "cpu"]) == 0
    (row,) = [json.loads(line) for line in (tmp_path / "benchmarks.jsonl").read_text().splitlines()]
    assert row["case"] == "nano, without Gram, float32"
    assert row["ratio"] == pytest.approx(row["images_per_second"] / row["plain_images_per_second"])
    assert all(0 < row[name] < float("inf") for name in ("ratio", "of_peak", "memory_gib", "plain_memory_gib"))
    assert sum(row["time"].values()) == pytest.approx(1)
    assert "nano, without Gram, float32" in capsys.readouterr().out
    alone = [told for told in commands if "--alone" in told]
    assert len(alone) == 2
    assert {told[told.index("--threads") + 1] for told in alone} == {str(torch.get_num_threads())}
