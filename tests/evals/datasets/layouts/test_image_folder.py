import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.inventory import line
from evals.datasets.layouts.image_folder import ImageFolder
from evals.datasets.reading import Reading
from evals.datasets.settings import Set


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
    put(pets.with_name("flat") / "train" / "loose.png")
    for dataset, images in (
        (open_set("folder", root=pets, classes=[]), 7),
        (open_set("folder", root=pets.with_name("flat")), 1),
    ):
        assert dataset.classes == ()
        assert len(dataset) == images
        with pytest.raises(BadInput, match=r"without classes: want a sub-folder for each class"):
            dataset.label(0)


def test_images_beside_folders_of_images_are_a_question(pets):
    put(pets / "train" / "loose.png")
    (pets / "train" / "notes").mkdir()
    with pytest.raises(BadInput) as refused:
        open_set("folder", root=pets)
    assert str(refused.value) == (
        f"got loose.png beside the folders cat, dog, emu in {pets / 'train'}: want images or folders of classes; move "
        "it away to read the folders as classes, or set classes: [cat, dog, emu], or classes: [] to read all without "
        "classes"
    )
    chosen = open_set("folder", root=pets, classes=["cat", "dog", "emu"])
    assert (len(chosen), chosen.classes) == (6, ("cat", "dog", "emu"))
    assert chosen.found().skipped == {"beside the classes": ["train/loose.png"]}


def test_a_class_called_train_beside_others_is_a_question(tmp_path):
    for number, name in enumerate(("bus", "car", "train")):
        for picture in range(number + 1):
            put(tmp_path / "voc" / name / f"{picture}.png")
    (tmp_path / "voc" / "lists").mkdir()
    (tmp_path / "voc" / "lists" / "all.txt").touch()
    for split in ("train", "val"):
        with pytest.raises(BadInput) as refused:
            open_set("folder", root=tmp_path / "voc", split=split)
        assert str(refused.value) == (
            f"got the folder train beside bus, car in {tmp_path / 'voc'}: want either splits or classes; set splits: "
            "true to read train as a split, splits: false to read all of them as classes"
        )
    shutil.rmtree(tmp_path / "voc" / "lists")
    read = open_set("folder", root=tmp_path / "voc", reading=Reading(splits=False))
    assert [read.label(index) for index in range(len(read))] == [0, 1, 1, 2, 2, 2]
    assert read.classes == ("bus", "car", "train")
    part = open_set("folder", root=tmp_path / "voc", reading=Reading(splits=True))
    assert (len(part), part.classes, part.key(0)) == (3, (), "train/0.png")


def test_what_chooses_between_readings_leaves_the_fingerprint_of_the_same_files(pets):
    plain = open_set("folder", root=pets)
    assert open_set("folder", root=pets, reading=Reading(splits=True)).fingerprint() == plain.fingerprint()


def test_folders_without_images_beside_splits_are_no_question(pets):
    (pets / "annotations").mkdir()
    (pets / "annotations" / "all.json").touch()
    assert len(open_set("folder", root=pets)) == 6


def test_splits_that_are_said_to_be_there_must_be(pets):
    with pytest.raises(BadInput, match=r"got splits: true for .*train: want folders such as train and val in it"):
        open_set("folder", root=pets / "train", reading=Reading(splits=True))
    with pytest.raises(BadInput, match=r"splits=true: want it for kind=folder alone"):
        Set(kind="ade20k", root="x", splits=True)


def test_splits_inside_classes_are_a_question(tmp_path):
    for name in ("cat/train/a.png", "cat/val/b.png", "dog/train/c.png", "dog/val/d.png"):
        put(tmp_path / "pets" / name)
    said = r"got the folder train inside of cat in .*: want splits above classes, as in train/cat; move cat/train to .*"
    with pytest.raises(BadInput, match=said + r"splits: false to read all below cat as one class"):
        open_set("folder", root=tmp_path / "pets")
    whole = open_set("folder", root=tmp_path / "pets", reading=Reading(splits=False))
    assert (len(whole), whole.classes) == (4, ("cat", "dog"))


def test_every_suffix_that_pillow_reads_is_an_image(tmp_path):
    names = ("a.jfif", "b.jpe", "c.jp2", "d.gif", "e.pgm", "f.GIF")
    for name in names:
        put(tmp_path / "odd" / name)
    dataset = open_set("folder", root=tmp_path / "odd")
    assert [dataset.key(index) for index in range(len(dataset))] == list(names)
    assert {dataset.image(index).shape for index in range(len(dataset))} == {(4, 6, 3)}


def test_what_is_passed_over_is_told_by_reason_and_name(pets):
    for name in ("cat/notes.txt", "cat/._a.jpg", "Thumbs.db", "__MACOSX/cat/a.png"):
        (pets / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (pets / "train" / name).touch()
    for name in ("gone.jpg", "gone.png"):
        (pets / "train" / "dog" / name).symlink_to("nowhere.jpg")
    (pets / "train" / "emu" / "again").symlink_to(pets / "train" / "emu")
    found = open_set("folder", root=pets).found()
    assert (found.images, found.listed, found.classes) == (6, 6, 3)
    assert {reason: sorted(names) for reason, names in found.skipped.items()} == {
        "hidden": ["train/__MACOSX", "train/cat/._a.jpg"],
        "no picture by its suffix": ["train/Thumbs.db", "train/cat/notes.txt"],
        "dangling link": ["train/dog/gone.jpg", "train/dog/gone.png"],
        "folder read before": ["train/emu/again"],
    }
    told = line("pets/train", found, components=3)
    assert told.startswith("pets/train: 6 images, 3 classes, 3 components; skipped 7: ")
    assert re.search(r", 2 dangling links \(train/dog/gone\.(jpg|png)\)", told)


def test_a_folder_that_may_not_be_read_is_told(pets, monkeypatch):
    scan = os.scandir

    def refusing(path):
        if str(path).endswith("emu"):
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refusing)  # root, as which tests may run, may read everything
    with pytest.raises(BadInput, match=r"got empty class 'emu' in .*train \(1 unreadable folder \(emu\)\)"):
        open_set("folder", root=pets)


def test_a_set_without_splits_says_that_it_is_read_whole(pets):
    told = line("mine/tost", open_set("folder", root=pets / "train", split="tost", count=2).found())
    assert told == "mine/tost: 2 of 6 images, 3 classes; no folders of splits, so 'tost' is all of it"
    put(pets / "logo.png")
    told = line("pets/val", open_set("folder", root=pets, split="val").found())
    assert told == "pets/val: 1 image, 1 class; skipped 1: 1 beside the splits (logo.png)"


def test_archives_in_place_of_folders_are_named(tmp_path):
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "train.zip").touch()
    with pytest.raises(BadInput, match=r"got no image in .*packed \(1 no picture by its suffix \(train\.zip\)\): .*; "
                                       r"unpack the archive"):  # fmt: skip
        open_set("folder", root=tmp_path / "packed")
    with pytest.raises(BadInput, match=r"got root .*train\.zip \(a file\): want .*; unpack it"):
        open_set("folder", root=tmp_path / "packed" / "train.zip")


def test_a_linked_set_is_read_as_the_set_itself(pets):
    pets.with_name("link").symlink_to(pets)
    linked, own = open_set("folder", root=pets.with_name("link")), open_set("folder", root=pets)
    assert [linked.key(index) for index in range(6)] == [own.key(index) for index in range(6)]
    assert linked.fingerprint() == own.fingerprint()


def test_masks_depth_and_surfaces_are_refused_with_the_kinds_that_have_them(pets):
    dataset = open_set("folder", root=pets)
    with pytest.raises(BadInput, match=r"without masks: want kind ade20k, nyu or scenes"):
        dataset.mask(0)
    with pytest.raises(BadInput, match=r"without depth: want kind nyu or scenes"):
        dataset.depth(0)
    assert not dataset.has_surfaces
    with pytest.raises(BadInput, match=r"without surface normals and parts: want kind scenes"):
        dataset.surfaces(0)


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


def test_splits_in_capital_letters_are_splits(tmp_path):
    for split, count in (("Train", 3), ("Val", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                path = tmp_path / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4)).save(path)
    assert [(len(one), one.classes) for one in (ImageFolder(tmp_path, split) for split in ("train", "val"))] == [
        (6, ("cat", "dog")),
        (4, ("cat", "dog")),
    ]
    Image.new("RGB", (4, 4)).save(tmp_path / "Val" / "cat" / "9.png")
    (tmp_path / "Bus").mkdir()
    shutil.copy(tmp_path / "Val" / "cat" / "9.png", tmp_path / "Bus" / "9.png")
    with pytest.raises(BadInput, match="got the folder Train beside Bus"):
        ImageFolder(tmp_path, "train")
