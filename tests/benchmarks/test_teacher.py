"""The benchmark of a Gram teacher's forward pass: both ways give the same patches, and what it measured is noted."""

import json

import pytest
import torch

from benchmarks import teacher


@pytest.mark.slow
def test_a_small_crop_is_measured_and_noted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    try:
        assert teacher.main(["--size", "32", "--crops", "1", "--seconds", "0", "--precision", "float32"]) == 0
    finally:
        torch.set_num_threads(threads)
    (row,) = [json.loads(line) for line in (tmp_path / "benchmarks.jsonl").read_text().splitlines()]
    assert row["case"] == "vits_smoke.yaml, 32, float32"
    assert row["of_peak"] == pytest.approx(row["gflops"] / row["peak_gflops"])
    assert row["ratio"] == pytest.approx(row["of_peak"] / row["plain_of_peak"])
    assert "32 pixels, float32" in capsys.readouterr().out


def test_operations_are_those_of_the_products_of_a_block():
    backbone = teacher.teacher("vits_smoke.yaml")
    assert teacher.operations(backbone, torch.empty(2, 3, 448, 448)) == 2 * 12 * (24 * 384**2 * 789 + 4 * 789**2 * 384)
