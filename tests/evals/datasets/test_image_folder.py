import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_set


def put(path, value=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 4), (value, value, value)).save(path)


@pytest.fixture
def pets(tmp_path):
    for place, name in enumerate(("cat/b.png", "cat/a.JPG", "dog/deep/c.webp", "dog/d.bmp", "dog/e.tif", "emu/f.ppm")):
        put(tmp_path / "pets" / "train" / name, place * 10)
    put(tmp_path / "pets" / "val" / "cat" / "g.jpeg")
    return tmp_path / "pets"


def test_sub_folders_are_classes_in_order_of_their_names(pets):
    dataset = open_set("folder", root=pets)
    assert (dataset.name, dataset.split, dataset.classes, dataset.segments) == (
        "pets",
        "train",
        ("cat", "dog", "emu"),
        (),
    )
    keys = ["cat/a.JPG", "cat/b.png", "dog/d.bmp", "dog/deep/c.webp", "dog/e.tif", "emu/f.ppm"]
    assert [dataset.key(index) for index in range(6)] == [f"train/{key}" for key in keys]
    assert [dataset.label(index) for index in range(6)] == [0, 0, 1, 1, 1, 2]
    assert dataset.image(1).tolist() == np.zeros((4, 6, 3)).tolist()
    assert not dataset.has_depth


def test_a_root_without_splits_is_read_itself(pets):
    dataset = open_set("folder", root=pets / "train", name="mine")
    assert (len(dataset), dataset.name, dataset.key(0)) == (6, "mine", "cat/a.JPG")


def test_classes_choose_sub_folders_and_their_order(pets):
    dataset = open_set("folder", root=pets, classes=["dog", "cat"])
    assert [dataset.label(index) for index in range(len(dataset))] == [0, 0, 0, 1, 1]
    with pytest.raises(BadInput, match=r"got class 'dgo' for .*: want one of cat, dog, emu; did you mean 'dog'"):
        open_set("folder", root=pets, classes=["dgo"])


def test_a_set_without_classes_refuses_to_give_labels(pets):
    put(pets / "train" / "loose.png")
    for dataset in (open_set("folder", root=pets), open_set("folder", root=pets, classes=[])):
        assert dataset.classes == ()
        assert len(dataset) == 7
        with pytest.raises(BadInput, match=r"got set 'pets' without classes: want a sub-folder for each class"):
            dataset.label(0)


def test_masks_and_depth_are_refused_with_the_kinds_that_have_them(pets):
    dataset = open_set("folder", root=pets)
    with pytest.raises(BadInput, match=r"without masks: want kind ade20k, nyu or scenes"):
        dataset.mask(0)
    with pytest.raises(BadInput, match=r"without depth: want kind nyu or scenes"):
        dataset.depth(0)


def test_count_takes_an_even_share(pets):
    dataset = open_set("folder", root=pets, count=3)
    assert [dataset.label(index) for index in range(3)] == [0, 1, 1]


def test_the_fingerprint_follows_the_files(pets):
    before = open_set("folder", root=pets).fingerprint()
    assert open_set("folder", root=pets).fingerprint() == before
    elsewhere = shutil.copytree(pets, pets.with_name("copy"))
    assert open_set("folder", root=elsewhere).fingerprint() == before
    with (pets / "train" / "cat" / "b.png").open("ab") as file:
        file.write(b"more")
    assert open_set("folder", root=pets).fingerprint() != before


def test_the_stamp_follows_a_file_of_the_same_size(pets):
    dataset = open_set("folder", root=pets)
    before = dataset.stamp(), dataset.fingerprint()
    path = pets / "train" / "cat" / "b.png"
    path.with_name("new").write_bytes(path.read_bytes()[::-1])
    path.with_name("new").replace(path)
    assert dataset.fingerprint() == before[1]
    assert dataset.stamp() != before[0]
    assert open_set("folder", root=pets, count=3).stamp() != dataset.stamp()


def test_an_empty_class_is_named(pets):
    (pets / "train" / "cow").mkdir()
    with pytest.raises(BadInput, match=r"got empty class 'cow' in .*: want at least one image"):
        open_set("folder", root=pets)


def test_missing_and_empty_folders_are_named(pets, tmp_path):
    with pytest.raises(BadInput, match=r"got root .*nowhere \(missing\): want a folder"):
        open_set("folder", root=tmp_path / "nowhere")
    with pytest.raises(BadInput, match=r"got root .*g\.jpeg \(a file\): want a folder"):
        open_set("folder", root=pets / "val" / "cat" / "g.jpeg")
    (tmp_path / "bare" / "sub").mkdir(parents=True)
    for root in (tmp_path / "bare", tmp_path / "bare" / "sub"):
        with pytest.raises(BadInput, match=r"got no image in .*bare"):
            open_set("folder", root=root)
    with pytest.raises(BadInput, match=r"got split 'test' for .*pets: want one of train, val"):
        open_set("folder", root=pets, split="test")


def test_an_unreadable_image_is_named(pets):
    (pets / "train" / "emu" / "f.ppm").write_bytes(b"")
    with pytest.raises(BadInput, match=r"got unreadable image .*f\.ppm \(empty\)"):
        open_set("folder", root=pets).image(5)


def test_imagenette_opens_with_its_counts():
    if "GRAMLAB_DATA" not in os.environ:
        pytest.skip("GRAMLAB_DATA is not set")
    root = Path(os.environ["GRAMLAB_DATA"]) / "imagenette128"
    train, val = (open_set("folder", root=root, split=split) for split in ("train", "val"))
    assert (len(train), len(val), len(train.classes)) == (9469, 3925, 10)
    assert train.image(5000).shape == (128, 128, 3)
    assert train.name == "imagenette128"
