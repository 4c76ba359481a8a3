"""A broken file in mid-training: the advice works, and the run ends as one that left the file out from the start."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from common.errors import BadInput
from evals.datasets.settings import Set
from harness.config import load
from harness.data.pool import fingerprint, open_pool
from harness.excluded import recorded
from harness.graph import jobs
from harness.job_folder import check, saved_step, state_path
from harness.train import train

CPU = torch.device("cpu")
KEY = "train/cat/3.png"


def nothing(job, step, folder):
    return {}


@pytest.fixture
def broken(photos):
    path = photos / KEY
    path.write_bytes(path.read_bytes()[:2000])
    return path


@pytest.fixture
def job_of(tiny, change, photos):
    """The job of ten steps on the photos without the excluded ones, and its pool."""

    def of(folder, exclude=(), **values):
        sources = {"photos": Set(kind="folder", root=str(photos), exclude=list(exclude))}
        given = {"steps": 10, "data.sources": sources, "data.batch_size": 2, "runtime.checkpoint_every": 1}
        given |= {"runtime.folder": str(folder), "arms": {"plain": {}}, "data.homogeneous_share": 0.3}
        experiment = change(tiny, given | values)
        pool = open_pool(experiment.data)
        (job,) = jobs(experiment, fingerprint=lambda data: fingerprint(pool))
        return job, pool

    return of


def test_an_excluded_image_keeps_its_place_and_the_next_of_its_component_stands_in(job_of, photos, tmp_path):
    _, plain = job_of(tmp_path)
    _, less = job_of(tmp_path, [KEY, "train/cat/4.png", "train/dog/5.png"])
    images = [plain.image(index) for index in range(12)]
    stands = [next(i for i, image in enumerate(images) if np.array_equal(image, less.image(at))) for at in range(12)]
    assert stands == [0, 1, 2, 5, 5, 5, 6, 7, 8, 9, 10, 6]
    assert less.key(3) == "photos/train/cat/3.png"
    assert {name: members.tolist() for name, members in less.components.items()} == {
        "photos/cat": [0, 1, 2, 3, 4, 5],
        "photos/dog": [6, 7, 8, 9, 10, 11],
    }
    assert fingerprint(less) == fingerprint(plain)
    assert less.found()["photos"] == (
        "photos/train: 9 of 12 images, 2 classes, 2 components; skipped 3: 3 excluded (train/cat/3.png)"
    )


def test_an_unknown_image_and_a_component_without_any_are_refused_by_name(job_of, tmp_path):
    with pytest.raises(BadInput, match=r"got exclude=train/cat/7\.png for set 'photos', .*; did you mean 'train/cat/"):
        job_of(tmp_path, ["train/cat/7.png"])
    with pytest.raises(
        BadInput, match=r"got every image of photos/dog in data\.sources\.photos\.exclude: want one left"
    ):
        job_of(tmp_path, [f"train/dog/{number}.png" for number in range(6)])


def test_a_run_that_stopped_at_a_broken_file_goes_on_as_one_that_excluded_it_from_the_start(
    job_of, broken, same, tmp_path, caplog
):
    whole, pool = job_of(tmp_path / "whole", [KEY])
    train(whole, pool, nothing, device=CPU)
    cut, pool = job_of(tmp_path / "cut")
    with pytest.raises(
        BadInput, match=r"got unreadable image .*train/cat/3\.png .*: want a whole image; set "
    ) as error:
        train(cut, pool, nothing, device=CPU)
    stopped = saved_step(cut)
    assert 0 < stopped < 10
    told = re.search(r'set "data\.sources\.photos\.exclude=\[(.*)\]" to go on without it', str(error.value))
    assert told is not None
    again, pool = job_of(tmp_path / "cut", told[1].split(","))
    train(again, pool, nothing, device=CPU)
    assert same(load_file(state_path(again, 10)), load_file(state_path(whole, 10)))
    assert [(since.step, since.images) for since in recorded(again.folder)] == [(stopped, {"photos": [KEY]})]
    assert [(since.step, since.images) for since in recorded(whole.folder)] == [(0, {"photos": [KEY]})]
    assert "can be read" not in caplog.text


def test_the_key_of_the_advice_is_taken_on_the_command_line(job_of, photos, tmp_path, tiny_text):
    odd = "train/cat/it's 5,[a].png"
    shutil.move(photos / "train/cat/5.png", photos / odd)
    _, pool = job_of(tmp_path, [KEY])
    at = next(index for index in range(12) if pool.key(index).endswith("].png"))
    assert pool.remedy([at, 7]) == (
        "\"data.sources.photos.exclude=[train/cat/3.png,'train/cat/it\\'s 5,[a].png',train/dog/1.png]\""
    )
    path = tmp_path / "tiny.yaml"
    sources = {"sources": {"photos": {"kind": "folder", "root": str(photos)}}}
    path.write_text(tiny_text(tmp_path, data=sources))
    loaded = load(path, [pool.remedy([at, 7]).strip('"')])
    assert loaded.data.sources["photos"].exclude == (KEY, odd, "train/dog/1.png")


def test_a_readable_image_that_is_excluded_later_is_told(job_of, tmp_path, caplog):
    job, pool = job_of(tmp_path, steps=4)
    train(job, pool, nothing, device=CPU)
    more, pool = job_of(tmp_path, [KEY])
    with caplog.at_level("INFO", logger="gramlab"):
        train(more, pool, nothing, device=CPU)
    assert "plain-s0: from step 4 on without photos/train/cat/3.png" in caplog.text
    assert "photos/train/cat/3.png can be read, so the steps up to 4 may have seen it" in caplog.text


def test_a_list_that_shrinks_is_refused(job_of, tmp_path):
    job, pool = job_of(tmp_path, [KEY, "train/dog/1.png"], steps=2)
    train(job, pool, nothing, device=CPU)
    check(job_of(tmp_path, [KEY, "train/dog/1.png", "train/dog/2.png"])[0])
    with pytest.raises(
        BadInput, match=r"left train/dog/1\.png out of training: want it in data\.sources\.photos\.exclude "
    ):
        check(job_of(tmp_path, [KEY])[0])


def test_a_run_without_exclusions_leaves_no_record_of_them(job_of, tmp_path):
    job, pool = job_of(tmp_path, steps=1)
    train(job, pool, nothing, device=CPU)
    assert not (job.folder / "excluded.json").exists()
    assert recorded(job.folder) == []


@pytest.mark.parametrize("content", [{}, {"excluded": [3]}, {"excluded": [{"step": -1, "images": {}}]}])
def test_a_damaged_record_is_named(tmp_path, content):
    (tmp_path / "excluded.json").write_text(json.dumps(content))
    with pytest.raises(BadInput, match=r"excluded\.json"):
        recorded(tmp_path)
