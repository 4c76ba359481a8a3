"""The benchmark of the training step: it takes a step of both kinds, whose losses agree, and notes what it measured."""

import json

import pytest
import torch

from benchmarks import step


@pytest.mark.slow
def test_a_step_of_nano_is_measured_and_noted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert step.main(["--model", "nano", "--gram", "off", "--seconds", "0", "--device", "cpu"]) == 0
    (row,) = [json.loads(line) for line in (tmp_path / "benchmarks.jsonl").read_text().splitlines()]
    assert row["case"] == "nano, without Gram, float32"
    assert row["ratio"] == pytest.approx(row["images_per_second"] / row["plain_images_per_second"])
    assert all(0 < row[name] < float("inf") for name in ("ratio", "of_peak", "memory_gib", "plain_memory_gib"))
    assert sum(row["time"].values()) == pytest.approx(1)
    assert "nano, without Gram, float32" in capsys.readouterr().out


NAN, INF = float("nan"), float("inf")


def refuse(ours, plain):
    runs = {"ours": lambda: {"loss": ours}, "plain": lambda: {"loss": plain}}
    step.refuse_other_work(runs, step.Case("nano", "off", "float32"))


def test_losses_that_agree_are_of_the_same_work():
    refuse(1.001, 1.0)


@pytest.mark.parametrize(("ours", "plain"), [(1.01, 1), (NAN, 1), (1, NAN), (NAN, NAN), (INF, 1), (1, INF), (INF, INF)])
def test_losses_that_do_not_agree_or_are_not_finite_end_it(ours, plain):
    with pytest.raises(SystemExit, match="not the same work"):
        refuse(ours, plain)


@pytest.mark.slow
def test_a_process_that_takes_steps_has_the_threads_of_the_one_that_asks():
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        asked = step.Beside(step.Case("nano", "off", "float32"), "ours", torch.device("cpu"), keeps=True)
    finally:
        torch.set_num_threads(before)
    assert asked.ask("threads") == before + 1
