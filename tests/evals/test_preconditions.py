"""What names and counts show to be impossible is refused when tasks are opened, before any image is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.one_task import TaskSpec
from evals.run import main
from evals.suite import found_lines, paired, refuse_unfit
from evals.tasks.methods import protocol_of


def pictures(folder: Path, **classes: int) -> Path:
    """So many files for each class that are no pictures: nobody may read them."""
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            (folder / name / f"{number}.png").write_bytes(f"{name} {number}".encode())
    return folder


def opened(root: Path, split: str = "val", **given):
    return open_set("folder", root=root, split=split, name="pets", **given)


def refused(protocol, train, test) -> str:
    with pytest.raises(BadInput) as error:
        refuse_unfit({"probe": paired(protocol, train, test)}, where="evals.tasks.")
    return str(error.value)


@pytest.fixture
def pets(tmp_path):
    pictures(tmp_path / "pets" / "train", cat=4, dog=3, emu=2)
    pictures(tmp_path / "pets" / "val", cat=2, dog=1)
    return tmp_path / "pets"


def test_classes_without_validation_images_are_allowed_and_said(pets):
    spec = paired(protocol_of("knn"), opened(pets, "train"), opened(pets))
    refuse_unfit({"knn": replace(spec, protocol=replace(spec.protocol, k=(5,)))})
    assert spec.test_set.classes == ("cat", "dog", "emu")
    assert found_lines({"knn": spec}) == [
        "pets/train: 9 images, 3 classes",
        "pets/val: 3 images, 2 classes; no image of 1 of the 3 classes of training (emu)",
    ]


def test_labels_of_a_test_set_are_numbered_by_the_classes_of_training(pets):
    test = paired(protocol_of("knn"), opened(pets, "train"), opened(pets, classes=["dog"])).test_set
    assert [test.label(index) for index in range(len(test))] == [1]
    turned = paired(protocol_of("knn"), opened(pets, "train", classes=["emu", "dog", "cat"]), opened(pets)).test_set
    assert [turned.label(index) for index in range(len(turned))] == [2, 2, 1]
    assert [turned.key(index) for index in range(3)] == ["val/cat/0.png", "val/cat/1.png", "val/dog/0.png"]
    own = opened(pets)
    assert paired(protocol_of("knn"), opened(pets, classes=["cat", "dog"]), own).test_set is own
    assert turned.fingerprint() != own.fingerprint()


def test_classes_that_training_lacks_are_refused_by_name(pets):
    pictures(pets / "val", gnu=2)
    assert refused(protocol_of("knn"), opened(pets, "train"), opened(pets)) == (
        "evals.tasks.probe: got 3 classes in pets/train and 3 in pets/val ('emu' is in pets/train alone, 'gnu' is in "
        "pets/val alone): want one list for both; choose those of pets/val that pets/train has too, by its setting "
        "`classes`"
    )


def test_folders_that_are_no_classes_are_told_where_none_is_shared(tmp_path):
    pictures(tmp_path / "scans" / "train", p01=2, p02=2)
    pictures(tmp_path / "scans" / "val", p03=2)
    said = refused(protocol_of("logreg"), opened(tmp_path / "scans", "train"), opened(tmp_path / "scans"))
    assert "name the classes in a table where folders are patients, clips or days" in said


def test_more_neighbours_than_training_images_are_refused(pets):
    knn = replace(protocol_of("knn"), k=(20,))
    assert "got k=20 and 9 training images: want no more" in refused(knn, opened(pets, "train"), opened(pets))
    own = "k: [5] and a new name in a copy of evals/protocols/knn-quick.yaml and give it by --protocol knn=FILE.yaml"
    assert refused(knn, opened(pets, "train"), opened(pets)).endswith(f"; add images, or write {own}")
    capped = replace(knn, k=(5,), train_images=4)
    assert "got k=5 and 4 training images: want no more" in refused(capped, opened(pets, "train"), opened(pets))


@pytest.mark.parametrize("name", ["knn", "linear", "linear-paper", "logreg"])
def test_one_class_is_refused(tmp_path, name):
    pictures(tmp_path / "train", cat=4)
    pictures(tmp_path / "val", cat=2)
    said = refused(protocol_of(name), opened(tmp_path, "train"), opened(tmp_path))
    assert said == "evals.tasks.probe: got one class in pets: want at least two; add classes or name another set"


@pytest.mark.parametrize("name", ["linear", "logreg"])
def test_a_single_image_of_each_class_is_refused(tmp_path, name):
    pictures(tmp_path / "train", cat=1, dog=1)
    pictures(tmp_path / "val", cat=1, dog=2)
    said = refused(protocol_of(name), opened(tmp_path, "train"), opened(tmp_path))
    assert "got 2 training images, one per class: want two of a class at least" in said


def test_too_few_images_for_health_are_refused(pets):
    assert "got 3 images: want at least 8; do add some" in refused(protocol_of("health"), None, opened(pets))
    capped = replace(protocol_of("health"), test_images=5)
    assert "got 5 images: want at least 8" in refused(capped, None, opened(pets, "train"))


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("segmentation", "pixel classes"),
        ("retrieval", "pixel classes"),
        ("depth", "depth"),
        ("knn", "image classes"),
        ("normals", "surface normals"),
        ("boundaries", "parts"),
    ],
)
def test_sets_without_what_a_task_needs_are_refused(tmp_path, name, needs):
    (tmp_path / "a.png").touch()
    said = refused(protocol_of(name), opened(tmp_path), open_set("scenes", size=8, count=9, split="val"))
    rendered = ", which rendered rooms alone have (kind: scenes)" if name in ("normals", "boundaries") else ""
    assert said == f"evals.tasks.probe: got pets/val without {needs}: want a set with them{rendered}; name another"


def test_all_tasks_that_cannot_be_are_told_at_once(pets):
    tasks = {
        "near": TaskSpec(replace(protocol_of("knn"), k=(20,)), opened(pets, "train"), opened(pets, "train")),
        "well": TaskSpec(protocol_of("health"), None, opened(pets)),
    }
    with pytest.raises(BadInput) as error:
        refuse_unfit(tasks)
    first, second = str(error.value).splitlines()
    assert first.startswith("evaluation near: got the same 9 images for training and for judging (pets)")
    assert "name the folder above, or make folders train and val, or a table with a split column" in first
    assert second == "evaluation well: got 3 images: want at least 8; do add some"


@pytest.mark.parametrize("more", [[], ["--validate"]])
def test_the_command_refuses_before_it_loads_a_backbone(pets, capsys, more):
    given = ["/no/such/backbone", "knn@pets", "--data", f"pets={pets}", "--no-cache", *more]
    assert main(given) == 2
    assert "evaluation knn@pets: got k=20 and 9 training images" in capsys.readouterr().err


@pytest.mark.parametrize("more", [[], ["--validate"]])
def test_the_command_tells_what_it_found(tmp_path, capsys, more):
    for level, split in enumerate(("train", "val")):  # files of equal names and sizes
        for name in ("cat", "dog"):
            (tmp_path / "pets" / split / name).mkdir(parents=True)
            for number in range(10):
                path = tmp_path / "pets" / split / name / f"{number}.bmp"
                Image.new("RGB", (32, 32), (number, level, 9)).save(path)
    (tmp_path / "pets" / "val" / "cat" / "notes.txt").touch()
    given = ["random:test_vit", "knn@pets", "--data", f"pets={tmp_path / 'pets'}", "--sizes", "32", "--no-cache"]
    assert main([*given, "--out", str(tmp_path / "out"), *more]) == 0
    told = capsys.readouterr().err.splitlines()
    assert "pets/train: 20 images, 2 classes" in told
    assert "pets/val: 20 images, 2 classes; skipped 1: 1 no picture by its suffix (val/cat/notes.txt)" in told
