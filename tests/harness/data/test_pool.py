"""The pool: one index space, its components, and what it keeps."""

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.layouts.image_folder import ImageFolder
from evals.datasets.settings import Set
from harness.data.pool import Pool, open_pool
from harness.data_settings import Data


@pytest.fixture
def folder(tmp_path):
    """Two classes with 3 and 2 images, each of one grey level."""
    for i, title in enumerate(["cat", "cat", "cat", "dog", "dog"]):
        target = tmp_path / "train" / title / f"{i}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 10), (40 * i, 40 * i, 40 * i)).save(target)
    return tmp_path


def pool(folder, components="image_class", **options):
    return Pool({"a": ImageFolder(folder), "b": ImageFolder(folder, classes=["dog"])}, components, **options)


def test_sources_follow_each_other_in_one_index_space(folder):
    both = pool(folder)
    assert len(both) == 7
    assert [int(both.image(i)[0, 0, 0]) for i in range(7)] == [0, 40, 80, 120, 160, 120, 160]
    assert both.key(0) == "a/train/cat/0.png"
    assert both.key(6) == "b/train/dog/4.png"
    assert len({both.key(i) for i in range(7)}) == 7


def test_components_are_the_classes_of_each_source(folder):
    got = {name: members.tolist() for name, members in pool(folder).components.items()}
    assert got == {"a/cat": [0, 1, 2], "a/dog": [3, 4], "b/dog": [5, 6]}


def test_components_can_be_the_sources(folder):
    got = {name: members.tolist() for name, members in pool(folder, "source").components.items()}
    assert got == {"a": [0, 1, 2, 3, 4], "b": [5, 6]}


def test_a_source_without_classes_is_one_component(folder):
    got = Pool({"plain": ImageFolder(folder, classes=[])}).components
    assert {name: members.tolist() for name, members in got.items()} == {"plain": [0, 1, 2, 3, 4]}


def test_images_are_decoded_once_while_the_memory_lasts(folder):
    small = pool(folder, memory=2 * 600)  # two images of 10 × 20 × 3 bytes
    small.preload()
    first = [small.image(i) for i in range(7)]
    assert [small.image(i) is image for i, image in enumerate(first)] == [True, True] + 5 * [False]


def test_nothing_is_added_after_keep_no_more(folder):
    frozen = pool(folder)
    kept = frozen.image(0)
    frozen.keep_no_more()
    assert frozen.image(0) is kept
    assert frozen.image(1) is not frozen.image(1)


def test_an_unreadable_image_is_named(folder):
    (folder / "train" / "cat" / "1.png").write_bytes(b"no image")
    with pytest.raises(BadInput, match=r"cat/1\.png"):
        pool(folder).image(1)


def test_no_source_is_refused():
    with pytest.raises(BadInput, match="got no training source"):
        Pool({})


def test_the_pool_opens_from_settings(folder):
    sources = {"mine": Set(kind="folder", root=str(folder)), "made": Set(size=16, count=3)}
    opened = open_pool(Data(sources=sources))
    assert len(opened) == 8
    assert opened.image(7).shape == (16, 16, 3)
    assert opened.image(7).dtype == np.uint8
    assert "mine/cat" in opened.components
