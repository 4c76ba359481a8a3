import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_named, open_set
from evals.datasets.checking.mask_look import refuse_misread_masks, refuse_wrong_list
from evals.datasets.reading import Reading
from evals.datasets.settings import Set, open_one

NAMES = ["sky", "sea", "sand"]


def put(root, *masks, split="training"):
    """A set of these masks, each of its own values."""
    for number, values in enumerate(masks):
        pixels = np.array([values], dtype=np.uint8)
        for folder, content in (("images", np.zeros((*pixels.shape, 3), dtype=np.uint8)), ("annotations", pixels)):
            path = root / folder / split / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)
    return root


def opened(root, *, classes=NAMES, split="train", count=None, **reading):
    return open_set("ade20k", root=root, classes=classes, split=split, count=count, reading=Reading(**reading))


def told(*sets):
    with pytest.raises(BadInput) as caught:
        refuse_misread_masks(sets[:1], sets[1:])
    assert "\n" not in str(caught.value)
    return str(caught.value)


QUESTION = (
    "got masks of 'set' (train) that may count their 3 classes from 0 or from 1 (value 3 is in none, 0 covers {}): "
    "want to know which; write `labels: from_zero` (0 is sky, 2 is sand) or `labels: from_one` (0 is ignored, 1 is "
    "sky, there is no sand) in the set's settings (docs/my-data.md says where)"
)


@pytest.mark.parametrize(
    ("masks", "share"),
    [
        pytest.param([[0, 0, 1, 2]], "50.0% of them", id="every value from 0 on"),
        pytest.param([[0, 0, 0, 1, 1, 1, 1, 2]], "37.5% of them", id="every value, 0 less than one class"),
        pytest.param([[0, 0, 0, 1, 1]], "60.0% of them", id="0 covers most"),
        pytest.param([[0, 2, 2, 2, 255]], "20.0% of them, 255 occurs", id="255 beside 0"),
    ],
)
def test_masks_that_look_as_if_they_counted_from_zero_are_asked_about(tmp_path, masks, share):
    root = put(tmp_path / "set", *masks)
    assert told(opened(root)) == QUESTION.format(share)
    refuse_misread_masks([opened(root, labels="from_zero")])


@pytest.mark.parametrize(
    "masks",
    [
        pytest.param([[0, 1, 2, 3]], id="the last class is there"),
        pytest.param([[0, 0, 0, 1], [3, 2, 2, 2]], id="in one mask alone"),
        pytest.param([[1, 1, 2, 255]], id="no 0"),
        pytest.param([[0, 2, 2, 2]], id="0 is little and another class lacks too"),
        pytest.param([[0, 1, 1, 1, 2, 2]], id="0 is little and the last class lacks alone"),
    ],
)
def test_masks_that_count_from_one_are_not_asked_about(tmp_path, masks):
    root = put(tmp_path / "set", *masks)
    refuse_misread_masks([], [opened(root)])


def test_one_mask_with_the_last_class_among_many_is_found(tmp_path):
    """Of 300 masks 200 are looked at first: not the second one."""
    root = put(tmp_path / "set", *[[0, 0, 1, 2]] * 300)
    assert told(opened(root)) == QUESTION.format("50.0% of them")
    put(root, [0, 0, 1, 2], [3, 3, 3, 3])
    refuse_misread_masks([opened(root)])


def test_what_is_said_is_not_asked(tmp_path):
    root = put(tmp_path / "set", [0, 0, 1, 2])
    for said in ({"labels": "from_one"}, {"labels": "from_zero"}, {"values": {0: "sand", 1: "sea", 2: "sky"}}):
        refuse_misread_masks([opened(root, **said)])


def test_a_held_out_split_counts_as_its_training_split_does(tmp_path):
    root = put(put(tmp_path / "set", [0, 1, 2, 3]), [0, 0, 1, 2], split="validation")
    train, val = opened(root), opened(root, split="val")
    refuse_misread_masks([train], [val])
    assert "'set' (val) that may count their 3 classes from 0" in told(val)
    other = put(tmp_path / "other", [0, 0, 1, 2], split="validation")
    assert "'other' (val) that may count" in told(train, opened(other, split="val"))


def test_zero_and_255_alone_are_two_classes_to_be_named(tmp_path):
    root = put(tmp_path / "set", [0, 255, 255], [0, 0, 0])
    message = told(opened(root, classes=["background", "lesion"]))
    assert message == (
        "got masks of 'set' (train) with the values 0 and 255 alone, which are no classes: want to know what they "
        "mean; write `values: {0: background, 255: lesion}` in the set's settings (docs/my-data.md says where)"
    )
    assert "`values: {0: NAME, 255: NAME}`" in told(opened(root))
    refuse_misread_masks([opened(root, classes=None, values={0: "background", 255: "lesion"})])


@pytest.mark.parametrize(
    ("masks", "reading", "message"),
    [
        ([[1, 1, 255]], {}, "got one class, 'sky', in the masks of 'set' (train): want at least two"),
        ([[0, 0, 255]], {"labels": "from_zero"}, "got one class, 'sky', in the masks"),
        ([[0, 0, 0]], {}, "got no labelled pixel in the masks of 'set' (train)"),
    ],
)
def test_masks_of_one_class_are_refused(tmp_path, masks, reading, message):
    assert message in told(opened(put(tmp_path / "set", *masks), **reading))


def test_a_second_class_in_one_mask_is_enough(tmp_path):
    root = put(tmp_path / "set", *[[1, 1]] * 300)
    assert "got one class, 'a'" in told(opened(root, classes=["a", "b"]))
    put(root, [1, 1], [2, 2])
    refuse_misread_masks([opened(root, classes=["a", "b"])])


def test_a_held_out_split_may_hold_one_class(tmp_path):
    root = put(put(tmp_path / "set", [1, 2, 3]), [1, 1], split="validation")
    refuse_misread_masks([opened(root)], [opened(root, split="val")])


def test_a_small_part_of_a_set_with_many_classes_is_not_asked_about(tmp_path):
    """As in a few images of ADE20K: most of its 150 classes lack, 0 is there but no value of its own for unlabelled."""
    root = put(tmp_path / "set", [0, 1, 1, 4, 9], [0, 1, 20, 20, 33])
    refuse_misread_masks([opened(root, classes=["ade20k"])])


def test_a_list_that_is_assumed_is_refused_where_most_of_it_lacks_however_few_the_images(tmp_path):
    root = put(tmp_path / "set", [0, 0, 1, 2, 11], [255, 0, 0, 3, 7])
    message = told(opened(root, classes=None))
    assert message == (
        "got no list of classes for 'set' (train), whose masks hold none of 145 of the 150 classes of ade20k, assumed "
        "for want of one: want the names that the masks' values (0, 1, 2, 3, 7, 11, 255) stand for; write `classes: "
        "[NAME, NAME]` or `values` in the set's settings (docs/my-data.md says where) or --classes set=NAME,NAME; "
        "`ade20k` alone if it is that list"
    )
    assert "none of 147 of the 150 classes of ade20k" in told(opened(root, classes=None, count=1))
    values = {0: "ignore", 1: "a", 2: "b", 3: "c", 7: "d", 11: "e", 255: "ignore"}
    refuse_misread_masks([opened(root, classes=None, values=values)])


def test_an_assumed_list_of_depth_sets_is_refused_as_well(tmp_path):
    root = put(tmp_path / "set", [0, 1, 2])
    path = root / "depth" / "training" / "000.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.full((1, 3), 2000, dtype=np.uint16)).save(path)
    assert "37 of the 39 classes of nyu40, assumed" in told(open_set("nyu", root=root))


def test_files_of_ade20ks_own_names_need_no_list(tmp_path):
    root = put(tmp_path / "set", [0, 1, 1, 4, 9])
    for path in list(root.glob("*/training/*.png")):
        path.rename(path.with_name("ADE_train_00000001.png"))
    refuse_misread_masks([opened(root, classes=None)])


def test_rendered_masks_are_what_they_say():
    refuse_misread_masks([open_set("scenes", size=8, count=1)])


def stored_from_zero(root: Path, away: Path) -> Path:
    """CamVid with its classes as 0 to 10 and 255 for unlabelled."""
    (away / "annotations").mkdir(parents=True)
    (away / "images").symlink_to(root / "images")
    for path in (root / "annotations").glob("*/*.png"):
        target = away / "annotations" / path.parent.name / path.name
        target.parent.mkdir(exist_ok=True)
        Image.fromarray(np.array(Image.open(path)) - np.uint8(1)).save(target)
    return away


@pytest.mark.skipif("GRAMLAB_DATA" not in os.environ, reason="GRAMLAB_DATA is not set")
@pytest.mark.parametrize("name", ["camvid", "nyuv2"])
def test_the_sets_of_gramlab_data_pass_without_a_question(name):
    refuse_misread_masks(*([open_named(name, split=split, needs="pixel classes")] for split in ("train", "val")))
    refuse_misread_masks([open_named(name, split="val", needs="pixel classes")])


@pytest.mark.skipif("GRAMLAB_DATA" not in os.environ, reason="GRAMLAB_DATA is not set")
def test_camvid_stored_from_zero_is_asked_about_and_then_read_as_the_same(tmp_path):
    root = Path(os.environ["GRAMLAB_DATA"], "camvid")
    given = {"kind": "ade20k", "split": "test", "classes": ["camvid"]}
    one = open_one("camvid", Set(root=str(root), **given), cache=None)
    away = stored_from_zero(root, tmp_path / "zero")
    message = told(open_one("zero", Set(root=str(away), **given), cache=None))
    assert "may count their 11 classes from 0 or from 1 (value 11 is in none, 0 covers 17.1% of them, 255" in message
    zero = open_one("zero", Set(root=str(away), labels="from_zero", **given), cache=None)
    refuse_misread_masks([zero])
    assert all(np.array_equal(one.mask(index), zero.mask(index)) for index in range(len(one)))


@pytest.mark.skipif("GRAMLAB_DATA" not in os.environ, reason="GRAMLAB_DATA is not set")
def test_camvid_without_a_pixel_of_its_last_class_is_not_asked_about(tmp_path):
    root = Path(os.environ["GRAMLAB_DATA"], "camvid")
    (tmp_path / "images").symlink_to(root / "images")
    for path in (root / "annotations" / "training").glob("*"):
        values = np.array(Image.open(path))
        target = tmp_path / "annotations" / "training" / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.where(values == 11, 0, values).astype(np.uint8)).save(target)
    given = Set(kind="ade20k", root=str(tmp_path), split="train", classes=["camvid"])
    refuse_misread_masks([open_one("camvid", given, cache=None)])


def test_the_list_of_another_set_is_refused(tmp_path):
    root = put(tmp_path / "set", *[[1, 2, 0]] * 12)
    with pytest.raises(BadInput, match=r"got 12 classes for set 'set', of which 10 have no pixel in its masks"):
        refuse_wrong_list(opened(root, classes=list("abcdefghijkl")))
