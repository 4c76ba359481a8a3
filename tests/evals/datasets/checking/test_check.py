import os
import re

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import KNOWN, open_named, open_set
from evals.datasets.checking.check import check
from evals.datasets.checking.mask_look import refuse_wrong_list
from evals.datasets.reading import Reading
from evals.datasets.subset import spread_subset
from tests.evals.datasets.told import told

NAMES = ["sky", "sea", "sand"]
VALUES = np.array([[0, 1, 2, 3], [3, 255, 1, 1]], dtype=np.uint8)
DEPTH = np.array([[0, 900, 2000, 3000]] * 2, dtype=np.uint16)


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def beach(tmp_path):
    root = tmp_path / "beach"
    for number in range(8):
        put(root / "images" / "training" / f"{number}.jpg", np.full((2, 4, 3), number, dtype=np.uint8))
        put(root / "annotations" / "training" / f"{number}.png", VALUES)
        put(root / "depth" / "training" / f"{number}.png", DEPTH)
    return root


def test_a_sound_set_is_counted(beach):
    found = check(open_set("nyu", root=beach, classes=NAMES))
    assert (found.images, found.pixels, found.ignored, found.unmasked) == (8, (24, 8, 16), 16, 0)
    assert found.depth == (pytest.approx(0.9), pytest.approx(3.0))
    assert found.median == pytest.approx(2)
    assert (found.without_depth, found.partial, found.warnings) == (0, "", ())
    assert str(found) == (
        "beach/train: 8 images, all readable, 3 of 3 pixel classes (labels from 1; 0 and 255 ignored), "
        "25.0% unlabelled, depth 0.90 to 3.00 m, median 2.00 m (rooms: 1 to 4 m)"
    )


@pytest.mark.parametrize(
    ("valid", "told"), [((0.9, 10.0), "33.33% of it outside 0.9 to 10 m"), ((0.001, 10.0), "none of it outside 0.001")]
)
def test_depth_that_does_not_count_is_told(beach, valid, told):
    assert f"median 2.00 m (rooms: 1 to 4 m), {told}" in str(check(open_set("nyu", root=beach), valid=valid))


def test_a_median_unlike_a_rooms_and_the_greatest_number_are_told(beach):
    for number in range(8):
        put(beach / "depth" / "training" / f"{number}.png", np.array([[5200, 5200, 5200, 65535]] * 2, dtype=np.uint16))
    found = check(open_set("nyu", root=beach, classes=NAMES), valid=(0.001, 10.0))
    assert "median 5.20 m (unlike a room's 1 to 4 m), 25.00% of it outside 0.001 to 10 m" in str(found)
    assert found.warnings == ("the farthest depth is 65.535 m: write `depth_unknown: 65535` if that is no depth",)
    reading = Reading(depth_unknown=[65535])
    assert check(open_set("nyu", root=beach, classes=NAMES, reading=reading), valid=(0.001, 10.0)).warnings == ()


@pytest.mark.parametrize(
    ("reading", "told"),
    [
        ({"labels": "from_zero"}, "labels from 0; 255 ignored"),
        ({"labels": "from_zero", "ignore": []}, "labels from 0; none ignored"),
        ({"ignore": [9, 255]}, "labels from 1; 0, 9 and 255 ignored"),
        ({"values": {0: "ignore", 1: "a", 2: "b", 3: "a"}}, "classes by values; 0 and 255 ignored"),
        ({"palette": {"a": [[0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3]], "b": [255, 255, 255]}}, "classes by palette"),
    ],
)
def test_how_masks_were_read_is_told(beach, reading, told):
    if reading.get("ignore") == []:
        for number in range(8):
            put(beach / "annotations" / "training" / f"{number}.png", VALUES % 4)
    classes = None if reading.keys() & {"values", "palette"} else [*NAMES, "more"]
    found = check(open_set("ade20k", root=beach, classes=classes, reading=Reading(**reading)))
    assert f"pixel classes ({told}), " in str(found)


def lines(call):
    with pytest.raises(BadInput) as caught:
        call()
    return str(caught.value).split("\n")


def test_each_kind_of_broken_file_is_named_with_what_to_do(beach):
    cut = beach / "images" / "training" / "1.jpg"
    cut.write_bytes(cut.read_bytes()[:200])
    put(beach / "annotations" / "training" / "3.png", VALUES.T.copy())
    put(beach / "annotations" / "training" / "4.png", np.zeros((2, 4, 3), dtype=np.uint8))
    put(beach / "depth" / "training" / "5.png", DEPTH.astype(np.uint8))
    told = lines(lambda: check(open_set("nyu", root=beach, classes=NAMES)))
    wanted = (
        r"unreadable image \S*/1\.jpg \(.*?runcated.*?\): want a whole image; replace or remove it, or leave it out by "
        r"exclude: \[images/training/1\.jpg\] in the set's YAML \(--data beach=FILE\.yaml; evals\.sets\.NAME\.exclude ",
        r"\S*/3\.png of 2 x 4 pixels: want 4 x 2 as \S*3\.jpg; replace one of them",
        r"\S*/4\.png in mode RGB: want an 8-bit mask of one channel; convert it, or name .* palette",
        r"\S*/5\.png in mode L: want 16 bits of millimetres, .* or say by depth_scale how many of 8 bits make a metre",
    )
    assert len(told) == len(wanted)
    for line, part in zip(told, wanted, strict=True):
        assert re.match(f"beach/train: got {part}", line), (part, line)


def test_files_of_one_kind_are_counted_and_all_can_be_left_out_at_once(beach):
    for number in range(3):
        (beach / "images" / "training" / f"{number}.jpg").write_bytes(b"")
    told = lines(lambda: check(open_set("nyu", root=beach, classes=NAMES)))
    shown = "exclude: [images/training/0.jpg, images/training/1.jpg, images/training/2.jpg]"
    (unreadable,) = [line for line in told if "unreadable" in line]
    assert shown in unreadable
    assert unreadable.endswith("(and 2 more such files)")


def test_values_above_the_list_of_classes_are_told_with_the_highest(beach):
    (told,) = lines(lambda: check(open_set("ade20k", root=beach, classes=NAMES[:2])))
    assert re.match(r"beach/train: got value 3 in \S*/0\.png: want 0 to 2 \(one per class\) or 255; correct", told)
    assert told.endswith("(and 7 more such files, values up to 3)")


@pytest.mark.parametrize(
    ("kind", "reading", "advice"),
    [
        ("ade20k", {"values": {1: "sky", 2: "sea", 0: "sand"}}, "add it to values, as `ignore` if no class has it"),
        ("ade20k", {"palette": {"sky": [[0, 0, 0]], "sea": [[1, 1, 1]]}}, "add it to palette, as `ignore`"),
        ("nyu", {"max_megapixels": 8e-6}, "set max_megapixels: 1 for the set"),
    ],
)
def test_what_the_settings_lack_is_advised_as_an_evaluation_does(beach, kind, reading, advice):
    if kind == "nyu":
        for number in range(8):
            put(beach / "annotations" / "training" / f"{number}.png", np.tile(VALUES, (2, 1)))
    told = lines(lambda: check(open_set(kind, root=beach, reading=Reading(**reading))))
    assert not any("replace or remove the files" in line for line in told)
    assert any(advice in line and "and 7 more such files" in line for line in told)


def test_two_values_alone_are_asked_about_and_not_called_empty(beach):
    for number in range(8):
        put(beach / "annotations" / "training" / f"{number}.png", (VALUES > 1) * np.uint8(255))
    (told,) = lines(lambda: check(open_set("ade20k", root=beach, classes=["background", "road"])))
    assert "write `values: {0: background, 255: road}` in the set's settings" in told


def test_a_list_of_which_a_training_split_lacks_most_is_refused(beach):
    message = told(lambda: check(open_set("ade20k", root=beach, classes=[*NAMES, "a", "b", "c", "d"])))
    assert message.startswith(
        "got 7 classes for set 'beach', of which 4 have no pixel in its masks (a, b, c and 1 more)"
    )
    assert "3 classes occur" in message


def test_a_long_tail_of_classes_is_no_wrong_list(tmp_path):
    """Of 300 masks 200 are looked at first; the rare classes are in others."""
    names = [*NAMES, *"abcdefghi"]
    for number in range(300):
        put(tmp_path / "images" / "training" / f"{number:03d}.jpg", np.zeros((2, 4, 3), dtype=np.uint8))
        put(tmp_path / "annotations" / "training" / f"{number:03d}.png", VALUES)
    with pytest.raises(BadInput, match=r"got 12 classes for set .* of which 9 have no pixel in its masks"):
        refuse_wrong_list(open_set("ade20k", root=tmp_path, classes=names))
    for value in range(4, 13):
        put(tmp_path / "annotations" / "training" / f"{3 * value + 2:03d}.png", np.full_like(VALUES, value))
    refuse_wrong_list(open_set("ade20k", root=tmp_path, classes=names))


def test_a_part_of_a_set_or_few_images_may_lack_classes(beach):
    names = [*NAMES, "a", "b", "c", "d"]
    assert check(open_set("ade20k", root=beach, classes=names, count=7)).warnings == (
        "4 of 7 classes never occur (a, b, c and 1 more)",
    )
    assert check(spread_subset(open_set("ade20k", root=beach, classes=names), 7)).pixels[3:] == (0, 0, 0, 0)
    assert len(check(open_set("ade20k", root=beach, classes=[*names, *"xyz"])).warnings) == 1
    (beach / "images" / "training").rename(beach / "images" / "validation")
    (beach / "annotations" / "training").rename(beach / "annotations" / "validation")
    assert check(open_set("ade20k", root=beach, split="val", classes=names)).images == 8


def test_masks_and_depth_without_any_content_are_refused(beach):
    for number in range(8):
        put(beach / "annotations" / "training" / f"{number}.png", np.zeros_like(VALUES))
    assert "got no labelled pixel in the masks of 'beach' (train)" in told(
        lambda: check(open_set("ade20k", root=beach, classes=NAMES))
    )
    for number in range(8):
        put(beach / "annotations" / "training" / f"{number}.png", VALUES)
        put(beach / "depth" / "training" / f"{number}.png", np.zeros_like(DEPTH))
    assert "got no known depth in 8 maps of 'beach' (train)" in told(
        lambda: check(open_set("nyu", root=beach, classes=NAMES))
    )


def test_images_without_truth_and_odd_depth_are_told(beach):
    put(beach / "annotations" / "training" / "0.png", np.zeros_like(VALUES))
    put(beach / "depth" / "training" / "1.png", np.zeros_like(DEPTH))
    for number in range(2, 8):
        put(beach / "depth" / "training" / f"{number}.png", np.full_like(DEPTH, 40000))
    found = check(open_set("nyu", root=beach, classes=NAMES))
    assert (found.unmasked, found.without_depth) == (1, 1)
    assert found.warnings == (
        "images without a labelled pixel: 1",
        "the median depth is 40.00 m, a room's about 1 to 4 m: if the unit is wrong, say depth_scale",
    )


def test_a_part_of_a_published_set_is_told_with_what_is_missing(beach):
    for part in ("images", "annotations"):
        for number in range(8):
            old = next((beach / part / "training").glob(f"{number}.*"))
            old.rename(old.with_name(f"ADE_train_{number + 1:08d}{old.suffix}"))
    (beach / "images" / "training" / "ADE_train_00000003.jpg").unlink()
    found = check(open_set("ade20k", root=beach))
    assert found.partial == (
        "7 of the 20,210 images that are published: "
        "ADE_train_00000003, ADE_train_00000009, ADE_train_00000010 and 20200 more are missing"
    )
    assert "without an image" in found.warnings[0]
    assert found.partial in str(found)
    assert check(open_set("ade20k", root=beach, classes=NAMES)).partial == ""
    assert check(open_set("ade20k", root=beach, count=3)).partial == ""
    assert check(open_set("ade20k", root=beach, classes=NAMES), known="camvid").partial.startswith(
        "7 of the 367 images"
    )


def test_rendered_scenes_pass():
    found = check(open_set("scenes", split="val", size=16, count=6))
    assert (found.images, found.without_depth, found.partial) == (6, 0, "")
    assert sum(found.pixels) == 6 * 16 * 16


@pytest.mark.parametrize("name", ["nyuv2", "camvid"])
def test_the_sets_of_gramlab_data_are_whole(name):
    if "GRAMLAB_DATA" not in os.environ:
        pytest.skip("GRAMLAB_DATA is not set")
    found = check(open_named(name, split="val"), known=name)
    assert (found.partial, found.without_depth, found.unmasked) == ("", 0, 0)
    assert all(found.pixels)
    assert found.images in KNOWN[name].published[KNOWN[name].held_out]
