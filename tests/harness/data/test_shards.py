"""Training from shards: the batches of a folder, whoever makes them and wherever a run goes on."""

import tarfile

import numpy as np
import pytest
import torch
from PIL import Image

from evals.datasets.settings import Set
from harness.data.pool import open_pool
from harness.data.stream import stream


@pytest.fixture
def sources(tmp_path):
    """Twelve pictures in two classes, as a folder and as three shards."""
    draw, paths = np.random.default_rng(0), []
    for number in range(12):
        paths.append(tmp_path / "photos" / ("cat", "dog")[number // 6] / f"{number:02d}.png")
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(paths[-1])
    for number in range(3):
        with tarfile.open(tmp_path / f"a-{number}.tar", "w") as shard:
            for path in paths[4 * number : 4 * number + 4]:
                label = tmp_path / "label"
                label.write_text(path.parent.name)
                shard.add(path, path.name)
                shard.add(label, f"{path.stem}.cls")
    folder = Set(kind="folder", root=str(tmp_path / "photos"))
    return {"folder": folder, "shards": Set(kind="shards", root=str(tmp_path / "a-{0..2}.tar"))}


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_the_folder_from_any_step_on(tiny, change, make_batches, sources, tmp_path, workers):
    def made(kind, start):
        settings = change(tiny, {"data.sources": {"photos": sources[kind]}, "data.homogeneous_share": 0.5})
        pool = open_pool(settings.data, cache=tmp_path / "cache")
        return list(stream(make_batches(settings, pool=pool), start, 6, workers=workers))

    want = made("folder", 0)
    for start in (0, 4):
        got = made("shards", start)
        assert all(torch.equal(one.globals, other.globals) for one, other in zip(got, want[start:], strict=True))
        assert [one.component for one in got] == [one.component for one in want[start:]]
