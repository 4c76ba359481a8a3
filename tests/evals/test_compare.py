from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from evals.compare import main
from evals.results.outcomes import save_outcomes
from evals.results.table import Measurement

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pair(tmp_path: Path) -> list[str]:
    """Two evaluated checkpoints: B knows 20 of 100 images more, its depth is as good, one image is only in A."""
    for name, knows, count in (("a", 30, 100), ("b", 50, 99)):
        keys = np.array([f"image-{number}" for number in range(count)])
        arrays = {"keys": keys, "correct": np.arange(count) < knows, "rmse": np.full(count, 0.5)}
        rows = [
            Measurement(
                eval=task, protocol=f"{task}-quick-v1", protocol_hash="0a1b2c3d", size=64, dataset="scenes",
                split="val", data="5cab1e00", metric=metric, value=0.0, low=0.0, high=0.0, images=count,
                outcomes=arrays,
            )
            for task, metric in (("knn", "top1"), ("depth", "rmse"))
        ]  # fmt: skip
        save_outcomes(tmp_path / name / "outcomes", rows)
    return [str(tmp_path / "a"), str(tmp_path / "b")]


def test_the_table_gives_values_difference_interval_and_verdict(pair: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(pair) == 0
    printed = capsys.readouterr().out
    (line,) = (line for line in printed.splitlines() if "top-1" in line)
    assert line.split()[:6] == ["top-1", "accuracy", "(%)", "30.30", "50.51", "+20.20"]
    assert line.endswith("higher (better)")
    (line,) = (line for line in printed.splitlines() if "RMSE" in line)
    assert line.split()[-1] == "undecided"
    assert "only the 99 images that both have: A has 100, B has 99" in printed
    assert "not other training seeds" in printed


def test_swapped_sides_give_the_opposite(pair: list[str], capsys: pytest.CaptureFixture[str]):
    assert main([*reversed(pair), "--metric", "top1"]) == 0
    printed = capsys.readouterr().out
    assert "-20.20" in printed
    assert "lower (worse)" in printed
    assert "RMSE" not in printed


def test_rows_are_written_whole_and_again_by_the_same_command(
    pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "new" / "differences.jsonl"
    for _ in range(2):
        assert main([*pair, "--out", str(out)]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["metric"] for row in rows] == ["top1", "rmse"]
    assert rows[0]["from"] == pair[0]
    assert (rows[0]["eval"], rows[0]["size"], rows[0]["images"], rows[0]["verdict"]) == ("knn", 64, 99, "higher")
    assert rows[0]["difference"] == pytest.approx(20 / 99)
    assert list(out.parent.iterdir()) == [out]


def test_the_picture_is_drawn_on_request(pair: list[str], tmp_path: Path):
    path = tmp_path / "forest.png"
    assert main([*pair, "--plot", str(path)]) == 0
    assert np.asarray(Image.open(path).convert("RGB")).std() > 5
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == [path.name]


def test_few_images_and_many_metrics_are_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    areas = {name: np.ones((6, 3), int) for name in ("intersect", "predicted", "truth")}
    rows = [
        Measurement(
            eval="segmentation", protocol="p-v1", protocol_hash="0a1b2c3d", size=size, dataset="scenes", split="val",
            data="5cab1e00", metric=metric, value=0.0, low=0.0, high=0.0, images=6,
            outcomes={"keys": np.arange(6).astype(str), **areas},
        )
        for size in (64, 128)
        for metric in ("miou", "pixel_accuracy", "mean_accuracy", "fscore", "precision", "recall")
    ]  # fmt: skip
    save_outcomes(tmp_path / "outcomes", rows)
    assert main([str(tmp_path), str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "as few as 6 images" in printed
    assert "about 1 of 12 leave out zero" in printed


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--metric", "tpo1"], "did you mean 'top1'"),
        (["--task", "knn", "--metric", "rmse"], "got nothing to compare"),
        (["--plot", "forest.txt"], "want a file ending in .png, .pdf, .svg"),
        (["third"], "unrecognized arguments: third"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    pair: list[str], more: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    assert main([*pair, *more]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.count("\n") == 1


def test_comparing_loads_no_torch(pair: list[str]):
    program = (
        f"import sys; from evals.compare import main; main({pair}); print([n for n in ('torch',) if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")


@pytest.mark.slow
def test_the_script_runs_from_anywhere(pair: list[str], tmp_path: Path):
    command = [sys.executable, str(ROOT / "evals" / "compare.py"), *pair]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "higher (better)" in done.stdout
