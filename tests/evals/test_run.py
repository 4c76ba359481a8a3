from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evals import results
from evals.backbone import create, export
from evals.run import main

FEW = ["--train-count", "40", "--test-count", "20"]


def test_all_tasks_run_on_embedded_data_and_rows_are_appended(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "rows.jsonl"
    assert main(["random:test_vit", *FEW, "--out", str(out), "--outcomes", str(tmp_path / "outcomes")]) == 0
    printed = capsys.readouterr().out
    assert "95 % interval" in printed
    assert "segmentation-quick-v1" in printed
    frame = results.load(out)
    assert list(frame.metric) == ["top1", "top1", "miou", "pixel_accuracy", "rmse", "delta1"]
    assert set(frame.run) == {"random:test_vit"}
    assert (frame.low <= frame.value).all()
    found = results.load_outcomes(tmp_path / "outcomes" / "knn-scenes-knn-quick-v1.npz")
    assert found["correct"].mean() == frame.value[0]


def test_an_exported_backbone_carries_its_place_in_the_run_into_the_rows(tmp_path: Path):
    folder, out = tmp_path / "step_000300", tmp_path / "rows.jsonl"
    extra = {"arm": "anchored", "seed": 2, "step": 300}
    export(create("test_vit", {}), folder, timm_name="test_vit", timm_args={}, extra=extra)
    assert main([str(folder), "knn", *FEW, "--size", "32", "--out", str(out)]) == 0
    row = results.load(out).iloc[0]
    assert (row.arm, row.seed, row.step) == ("anchored", 2, 300)


def test_the_list_names_every_task_and_protocol(capsys: pytest.CaptureFixture[str]):
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}-quick-v1" in printed for name in ("knn", "linear", "segmentation", "depth"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "got no backbone"),
        (["random:test_vti"], "test_vit"),
        (["random:test_vit", "kn"], "want one of knn, linear, segmentation, depth"),
        (["random:test_vit", "knn", "--size", "70"], "do use 64"),
        (["random:test_vit", "--sise", "64"], "unrecognized arguments: --sise"),
        (["random:test_vit", "knn", "--data-root", "/nowhere"], "want TASK=VALUE"),
        (["random:test_vit", "knn", "--data-root", "knn=/nowhere/at/all"], "/nowhere/at/all"),
        (["random:test_vit", "knn", "--batch-size", "0"], "want at least 1"),
        (["/nowhere/at/all", "knn"], "want an exported backbone folder"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.startswith("gramlab: ")
    assert captured.err.count("\n") == 1


@pytest.mark.slow
def test_the_script_runs_from_anywhere(tmp_path: Path):
    script = Path(__file__).resolve().parents[2] / "evals" / "run.py"
    command = [sys.executable, str(script), "--list"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "knn-quick-v1" in done.stdout
