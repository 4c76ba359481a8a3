"""Evaluations of one backbone by several processes: what they leave is what one process leaves, to the bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from common.errors import BadInput
from common.ranks import started
from evals import request
from evals.backbones.addresses import load
from evals.features.extract import extract
from evals.features.view import View
from evals.protocols.reading import FOLDER
from evals.run import main
from evals.tasks.methods import TASKS
from tests import processes

FEW = ["--train-images", "32", "--test-images", "16", "--sizes", "64", "--batch-size", "16"]
QUICK = [task for task in TASKS if task != "logreg"]
LIVE = {"iterations": 2, "batch_size": 2, "warmup": 1, "name": "short"}


def live(folder: Path) -> list[str]:
    """Words for a published protocol of segmentation at a length for tests."""
    path = folder / "segmentation-short.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load((FOLDER / "segmentation-standard.yaml").read_text()) | LIVE))
    return ["--protocol", f"segmentation={path}"]


def evaluated(words: list[str], folder: Path) -> int:
    """The command, with all that it leaves in a folder."""
    return main([*words, *FEW, "--cache", str(folder / "cache"), "--out", str(folder / "kept")])


@pytest.mark.parametrize("tasks", [QUICK, ["depth", "segmentation", "--plot"]], ids=["all tasks", "pictures"])
def test_two_processes_leave_what_one_leaves(
    tmp_path: Path,
    checksums: Callable[[Path], dict[str, str]],
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tasks: list[str],
):
    monkeypatch.setattr(request, "SCENES", {"train": 40, "val": 20})  # fewer are rendered sooner
    words = ["random:test_vit", *tasks, *(live(tmp_path) if tasks is QUICK else [])]
    places = [tmp_path / name for name in ("alone", "together")]
    assert evaluated(words, places[0]) == 0
    said = capfd.readouterr()
    first, other = processes.together(2, partial(evaluated, words, places[1]), tmp_path / "said")
    assert (first.code, other) == (0, (0, "", ""))
    assert first.out == said.out.replace(str(places[0]), str(places[1]))
    assert sorted(first.err.splitlines()) == sorted(said.err.splitlines())
    tables = [sorted((place / "kept" / "results.jsonl").read_text().splitlines()) for place in places]
    assert tables[0] == tables[1]
    assert {json.loads(line)["eval"] for line in tables[1]} == {*tasks} - {"--plot"}
    for part in ("kept/outcomes", "cache/features", *(["kept/plots"] if "--plot" in tasks else [])):
        assert checksums(places[0] / part) == checksums(places[1] / part) != {}


def photos(root: Path, *, damaged: str) -> Path:
    """Images of two classes in two shapes, one of which cannot be read."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 24), ("val", 12)):
        for i in range(count):
            path = root / split / "ab"[i % 2] / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(draw.integers(0, 255, (32, 40 + 8 * (i % 3 == 0), 3), dtype=np.uint8)).save(path)
    for path in root.glob(damaged):
        path.write_bytes(path.read_bytes()[:200])
    return root


class Uneven:
    """Random pictures of three shapes, of which one may not be read."""

    name, split, classes, segments, has_depth = "uneven", "train", ("a",), (), False

    def __init__(self, bad: int | None = None) -> None:
        self.bad = bad

    def __len__(self) -> int:
        return 43

    def key(self, index: int) -> str:
        return f"picture-{index}"

    def image(self, index: int) -> np.ndarray:
        if index == self.bad:
            raise BadInput(f"picture-{index} cannot be read: want another")
        draw = np.random.default_rng(index)
        return draw.integers(0, 255, (40, (40, 56, 72)[index * 7 % 5 % 3], 3), dtype=np.uint8)

    def stamp(self) -> str:
        return "as-it-is"


def extracted(cache: Path, *, workers: int = 0) -> int:
    """Views with and without patches, and what an image that one process cannot read, or weights, come to; prints how
    many images went through the backbone here."""
    backbone, sick, seen = load("random:test_vit"), load("random:test_vit"), list[int]()
    backbone.register_forward_pre_hook(lambda _, given: seen.append(len(given[0])))
    sick.model.norm.weight.data[0] = float("nan")
    with started() as ranks:
        options = {"batch_size": 4, "workers": workers, "cache": cache, "ranks": ranks}
        for view, dense in ((View("whole", 32), True), (View("crop", 32), False)):
            extract(backbone, Uneven(), view, dense=dense, **options)
        print(sum(seen))
        for bad in (0, 42):
            with pytest.raises(BadInput, match=f"picture-{bad} cannot be read"):
                extract(load("random:test_vit"), Uneven(bad), View("whole", 16), **options)
        with pytest.raises(BadInput, match="not finite"):
            extract(sick, Uneven(), View("crop", 16), **options)
    return 0


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_of_unlike_shapes_are_those_of_one_process(
    tmp_path: Path, checksums: Callable[[Path], dict[str, str]], workers: int
):
    assert extracted(tmp_path / "alone") == 0
    several = processes.together(3, partial(extracted, tmp_path / "together", workers=workers), tmp_path / "said")
    assert [one.code for one in several] == [0, 0, 0], several
    assert sum(shares := [int(one.out) for one in several]) == 2 * 43
    assert min(shares) >= 2 * 43 // 3 - 8
    assert checksums(tmp_path / "together" / "features") == (alone := checksums(tmp_path / "alone" / "features"))
    assert len(alone) == 6 + 4


def test_an_image_that_another_process_met_ends_all_in_one_line(tmp_path: Path):
    root = photos(tmp_path / "photos", damaged="train/b/23.png")
    words = ["random:test_vit", "knn@photos", "--data", f"photos={root}"]
    first, other = processes.together(2, partial(evaluated, words, tmp_path), tmp_path / "said")
    assert (first.code, other) == (2, (2, "", ""))
    (line,) = [line for line in first.err.splitlines() if line.startswith("gramlab:")]
    assert "evaluation knn@photos: " in line
    assert "23.png" in line
    assert not (tmp_path / "kept" / "results.jsonl").exists()


def test_other_weights_in_another_process_are_refused(tmp_path: Path):
    def act():
        import os

        path = tmp_path / f"of-{os.environ['RANK']}"
        return evaluated([f"random:test_vit{'' if path.name == 'of-0' else '2'}", "knn"], tmp_path)

    first, other = processes.together(2, act, tmp_path / "said")
    assert (first.code, other) == (2, (2, "", ""))
    assert first.err.splitlines()[-1].startswith("gramlab: got weights of random:test_vit unlike in processes 0 and 1")
