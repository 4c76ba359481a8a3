import json

import numpy as np
import pytest
from PIL import Image

from common import yaml_file
from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.decoding.unreadable import leave_out, or_exclude


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def halls(tmp_path):
    for number in range(3):
        put(tmp_path / "images" / "training" / f"{number}.png", np.zeros((2, 4, 3), dtype=np.uint8))
        put(tmp_path / "annotations" / "training" / f"{number}.png", np.ones((2, 4), dtype=np.uint8))
        put(tmp_path / "depth" / "training" / f"{number}.png", np.full((2, 4), 900, dtype=np.uint16))
    return tmp_path


def failure(read):
    with pytest.raises(BadInput) as caught:
        read(1)
    return caught.value


@pytest.mark.parametrize(("folder", "reader"), [("images", "image"), ("annotations", "mask"), ("depth", "depth")])
def test_whatever_file_of_an_image_is_broken_its_image_is_named(halls, folder, reader):
    dataset = open_set("nyu", root=halls, name="halls", classes=["a", "b"])
    (halls / folder / "training" / "1.png").write_bytes(b"torn")
    said = str(or_exclude(failure(getattr(dataset, reader)), [dataset]))
    assert said.endswith(
        "want a whole image; replace or remove it, or leave it out by exclude: [images/training/1.png] in the set's "
        "YAML (--data halls=FILE.yaml; evals.sets.NAME.exclude in an experiment)"
    )


def test_the_set_that_holds_the_file_is_told(halls, tmp_path):
    for split in ("train", "val"):
        put(tmp_path / "photos" / split / "cat" / "1 a.png", np.zeros((2, 4, 3), dtype=np.uint8))
        put(tmp_path / "photos" / split / "dog" / "1 a.png", np.zeros((2, 4, 3), dtype=np.uint8))
    photos = open_set("folder", root=tmp_path / "photos", name="photos")
    (tmp_path / "photos" / "train" / "dog" / "1 a.png").write_bytes(b"torn")
    other = open_set("nyu", root=halls, classes=["a", "b"])
    said = str(or_exclude(failure(photos.image), [other, photos]))
    assert 'exclude: ["train/dog/1 a.png"] in the set\'s YAML (--data photos=FILE.yaml; ' in said


def test_other_errors_stay_as_they_are(halls):
    dataset = open_set("nyu", root=halls, classes=["a", "b"])
    put(halls / "annotations" / "training" / "1.png", np.zeros((2, 4, 3), dtype=np.uint8))
    error = failure(dataset.mask)
    assert or_exclude(error, [dataset]) is error


def test_the_list_can_be_written_as_it_is_told(tmp_path):
    keys = ["train/cat/0007.jpg", "train/a, b/[1].jpg", "train/猫/é.jpg", 'train/"x": y.jpg']
    told = leave_out("photos", keys)
    path = tmp_path / "photos.yaml"
    path.write_text(told[told.index("exclude") : told.index("]", told.index("y.jpg")) + 1], encoding="utf-8")
    assert yaml_file.read(path) == {"exclude": keys}
    many = leave_out("photos", [f"{number}.jpg" for number in range(30)])
    assert "8.jpg, 9.jpg] and 20 more in" in many
    assert json.dumps("train/a, b/[1].jpg") in told
