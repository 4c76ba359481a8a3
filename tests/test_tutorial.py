"""The tutorial as a reader goes through it: its program, files and commands in their order, in an empty folder."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from harness import cli

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
STEPS = re.compile(r"^```(?P<language>python|yaml)\n(?P<block>.*?)^```|^    gramlab (?P<command>[^\n]*)$", re.M | re.S)
# one step of four images, judged on a few by what the page speaks of
SMALL = (
    *("steps=1", "evals.every=1", "data.batch_size=4", "launcher=none", "device=cpu", "runtime.threads=1"),
    *("evals.sets.scenes_val.count=24", "evals.sets.scenes_test.count=12", "evals.sets.photos.count=8"),
    *("~evals.tasks.linear", "~evals.tasks.normals", "~evals.tasks.health", "~evals.tasks.segmentation"),
)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder but for ten photographs, two of which lie deeper and one of which is on its side."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    (tmp_path / "originals" / "trip").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(10):
        picture = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize(
            (450, 300), Image.Resampling.BICUBIC
        )
        turned = picture.getexif()
        turned[0x0112] = 6 if number == 0 else 1
        place = "originals/trip" if number > 7 else "originals"
        picture.save(tmp_path / place / f"{number}.JPG", exif=turned)
    return tmp_path


@pytest.mark.slow
def test_the_tutorial_leads_from_photographs_to_verdicts(folder, capsys):
    told = []
    for step in STEPS.finditer(PAGE):
        take(step, folder)
        told.append((step["command"], capsys.readouterr().out))
    assert sorted(sizes(folder / "photos")) == [(171, 256)] + 9 * [(256, 171)]
    assert (folder / "sheet.png").exists()
    plans = [out for command, out in told if command and "--plan" in command]
    assert re.search(r"plain .* new +new", plans[0])
    assert re.search(r"plain .* done +done", plans[1])
    assert re.search(r"light .* new +new", plans[1])
    verdicts = pd.read_csv(folder / "runs/verdict/verdicts.csv")
    assert set(verdicts["arm"]) == {"anchored", "light"}
    judged = set(zip(verdicts["dataset"], verdicts["metric"], strict=True))
    assert judged >= {("scenes", "rmse"), ("scenes", "top1"), ("photos", "locality")}
    assert set(verdicts["seeds"]) == {3}
    assert (folder / "runs/verdict/report.pdf").read_bytes().startswith(b"%PDF")


def sizes(photos: Path) -> list[tuple[int, int]]:
    found = []
    for path in photos.glob("*.jpg"):
        with Image.open(path) as image:
            found.append(image.size)
    return found


def take(step: re.Match[str], folder: Path) -> None:
    """What the reader does at a step: run the program, save the file or its new line, give the command."""
    experiment = folder / "verdict.yaml"
    if step["language"] == "python":
        exec(compile(step["block"], "docs/tutorial.md", "exec"), {})
    elif step["language"] == "yaml" and experiment.exists():
        text, count = re.subn(r"^arms: .*\n", step["block"], experiment.read_text(encoding="utf-8"), flags=re.M)
        assert count == 1
        experiment.write_text(text, encoding="utf-8")
    elif step["language"] == "yaml":
        experiment.write_text(step["block"], encoding="utf-8")
    else:
        words = shlex.split(step["command"])
        assert cli.main([*words, *SMALL] if words[0] == "run" else words) == 0
