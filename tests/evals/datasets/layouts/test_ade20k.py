import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.labelled_set import BeyondClasses
from evals.datasets.layouts.ade20k import CAMVID, NYU40

NAMES = ["sky", "sea", "sand"]
VALUES = np.array([[0, 1, 2], [3, 255, 1]], dtype=np.uint8)


def put(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def beach(tmp_path):
    root = tmp_path / "beach"
    for name in ("b", "a"):
        put(root / "images" / "training" / f"{name}.jpg", np.zeros((2, 3, 3), dtype=np.uint8))
        put(root / "annotations" / "training" / f"{name}.png", VALUES)
    return root


def opened(root, **given):
    return open_set("ade20k", root=root, **{"classes": NAMES, **given})


def test_masks_are_reduced_by_one_and_zero_becomes_ignore(beach):
    dataset = opened(beach)
    assert dataset.mask(0).tolist() == [[255, 0, 1], [2, 255, 0]]
    assert dataset.mask(0).dtype == np.uint8
    assert dataset.segments == tuple(NAMES)
    assert (dataset.name, dataset.classes, dataset.has_depth) == ("beach", (), False)
    assert [dataset.key(index) for index in range(2)] == ["images/training/a.jpg", "images/training/b.jpg"]


def test_a_mask_of_palette_indices_is_read_as_its_indices(beach):
    picture = Image.fromarray(VALUES).convert("P")
    picture = Image.frombytes("P", picture.size, VALUES.tobytes())
    picture.putpalette(list(range(256)) * 3)
    picture.save(beach / "annotations" / "training" / "a.png")
    assert opened(beach).mask(0).tolist() == [[255, 0, 1], [2, 255, 0]]


def test_masks_with_all_the_254_classes_a_byte_can_hold_are_read(beach):
    values = np.array([[0, 1, 253], [254, 255, 2]], dtype=np.uint8)
    put(beach / "annotations" / "training" / "a.png", values)
    assert opened(beach, classes=[str(n) for n in range(254)]).mask(0).tolist() == [[255, 0, 252], [253, 255, 1]]


def test_the_names_are_those_of_ade20k_unless_others_are_given(beach):
    names = open_set("ade20k", root=beach).segments
    assert (len(names), names[0], names[149]) == (150, "wall", "flag")
    assert opened(beach, classes=["nyu40"]).segments == NYU40
    assert opened(beach, classes=["camvid"]).segments == CAMVID
    assert (len(NYU40), len(CAMVID), NYU40[-1], CAMVID[-1]) == (39, 11, "otherfurniture", "bicyclist")


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["nyu41"], r"got 1 classes \['nyu41'\]: want 2 to 254 names or one of ade20k, nyu40, camvid"),
        (["a", "b", "a"], "got class 'a' twice: want distinct names"),
    ],
)
def test_impossible_names_are_refused(beach, classes, message):
    with pytest.raises(BadInput, match=message):
        opened(beach, classes=classes)


def test_a_value_beyond_the_classes_is_refused_with_file_and_counts(beach):
    with pytest.raises(BadInput, match=r"got value 3 in .*a\.png: want 0 to 2 \(one per class\) or 255"):
        opened(beach, classes=NAMES[:2]).mask(0)


def test_a_missing_annotation_is_named(beach):
    (beach / "annotations" / "training" / "b.png").unlink()
    with pytest.raises(BadInput, match=r"got no annotation for .*b\.jpg: want .*training.b\.png"):
        opened(beach)
    (beach / "annotations").rename(beach / "masks")
    with pytest.raises(BadInput, match=r"got annotation folder .*annotations.training \(missing\)"):
        opened(beach)


def test_a_mask_of_another_size_than_its_image_is_named(beach):
    put(beach / "annotations" / "training" / "a.png", VALUES.T.copy())
    with pytest.raises(BadInput, match=r"got .*a\.png of 2 x 3 pixels: want 3 x 2 as .*a\.jpg"):
        opened(beach).mask(0)


def test_the_size_is_that_of_the_upright_image(beach):
    exif = Image.Exif()
    exif[0x0112] = 6
    put(beach / "images" / "training" / "a.jpg", np.zeros((3, 2, 3), dtype=np.uint8), exif=exif)
    dataset = opened(beach)
    assert dataset.mask(0).shape == dataset.image(0).shape[:2] == (2, 3)


def test_a_mask_that_is_no_mask_is_named(beach):
    put(beach / "annotations" / "training" / "a.png", np.zeros((2, 3, 3), dtype=np.uint8))
    with pytest.raises(BadInput, match=r"got .*a\.png in mode RGB: want an 8-bit mask"):
        opened(beach).mask(0)
    (beach / "annotations" / "training" / "b.png").write_bytes(b"")
    with pytest.raises(BadInput, match=r"got unreadable image .*b\.png \(empty\)"):
        opened(beach).mask(1)


def test_folders_without_the_layout_are_named(beach, tmp_path):
    with pytest.raises(BadInput, match=r"got root .*no \(missing\)"):
        opened(tmp_path / "no")
    with pytest.raises(BadInput, match=r"got image folder .*images \(missing\)"):
        opened(tmp_path)
    with pytest.raises(BadInput, match=r"got split 'test' for .*images: want one of training"):
        opened(beach, split="test")
    (tmp_path / "bare" / "images" / "training").mkdir(parents=True)
    with pytest.raises(BadInput, match=r"got no image in .*training"):
        opened(tmp_path / "bare")


def test_two_images_of_one_name_are_refused(beach):
    put(beach / "images" / "training" / "a.png", np.zeros((2, 3, 3), dtype=np.uint8))
    with pytest.raises(BadInput, match=r"got .*a\.jpg and a\.png: want one image of a name"):
        opened(beach)


def test_a_half_unpacked_set_is_told_with_counts_and_layout(beach):
    put(beach / "images" / "training" / "c.jpg", np.zeros((2, 3, 3), dtype=np.uint8))
    (beach / "annotations" / "training" / "b.png").unlink()
    with pytest.raises(BadInput, match=r"got no annotation for 2 of the 3 images .*\(b\.jpg, c\.jpg\).*annotations/\{"):
        opened(beach)


def test_a_root_one_level_too_high_is_recognised(beach):
    with pytest.raises(BadInput, match=r"got image folder .* \(missing\): want images/.*; did you mean .*beach\?"):
        opened(beach.parent)


def test_annotations_without_an_image_are_told(beach):
    assert opened(beach).notes() == []
    (beach / "images" / "training" / "a.jpg").unlink()
    assert len(opened(beach)) == 1
    (note,) = opened(beach).notes()
    assert note.endswith("training: 1 (a.png)")


def test_the_complaint_about_classes_travels_between_processes(beach):
    with pytest.raises(BeyondClasses) as caught:
        opened(beach, classes=NAMES[:2]).mask(0)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.value, str(again)) == (3, str(caught.value))


def test_labels_and_depth_are_refused(beach):
    with pytest.raises(BadInput, match=r"without image classes"):
        opened(beach).label(0)
    with pytest.raises(BadInput, match=r"without depth"):
        opened(beach).depth(0)


def test_the_fingerprint_follows_files_and_names(beach):
    before = opened(beach).fingerprint()
    assert opened(beach, classes=["x", *NAMES]).fingerprint() != before == opened(beach).fingerprint()
    with (beach / "annotations" / "training" / "a.png").open("ab") as file:
        file.write(b"more")
    assert opened(beach).fingerprint() != before


def test_camvid_opens_with_its_counts():
    if "GRAMLAB_DATA" not in os.environ:
        pytest.skip("GRAMLAB_DATA is not set")
    root = Path(os.environ["GRAMLAB_DATA"]) / "camvid"
    sets = [open_set("ade20k", root=root, split=split, classes=["camvid"]) for split in ("train", "val", "test")]
    assert [len(part) for part in sets] == [367, 101, 233]
    masks = [sets[2].mask(index) for index in range(0, 233, 40)]
    assert set(np.unique(masks)) <= {*range(11), 255}
    assert masks[0].shape == sets[2].image(0).shape[:2] == (192, 256)
