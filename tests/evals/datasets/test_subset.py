import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.checking.mask_look import refuse_misread_masks
from evals.datasets.inventory import line
from evals.datasets.settings import Set, open_one
from evals.datasets.subset import Subset, spread_subset


@pytest.fixture(scope="module")
def rooms():
    return open_set("scenes", split="val", size=16, count=7)


def test_a_subset_reads_what_the_set_has_at_its_places(rooms):
    part = Subset(rooms, np.array([5, 2]))
    assert part.indices == (5, 2)
    assert (len(part), part.name, part.split, part.has_depth) == (2, "scenes", "val", True)
    assert (part.classes, part.segments) == (rooms.classes, rooms.segments)
    for place, index in enumerate((5, 2)):
        assert (part.key(place), part.label(place)) == (rooms.key(index), rooms.label(index))
        np.testing.assert_array_equal(part.image(place), rooms.image(index))
        np.testing.assert_array_equal(part.mask(place), rooms.mask(index))
        np.testing.assert_array_equal(part.depth(place), rooms.depth(index))
        for one, other in zip(part.surfaces(place), rooms.surfaces(index), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_spread_subset_is_even_and_of_all_images_the_set_itself(rooms):
    part = spread_subset(rooms, 3)
    assert [part.key(index) for index in range(3)] == [rooms.key(index) for index in (0, 2, 4)]
    assert spread_subset(rooms, 7) is spread_subset(rooms, 100) is spread_subset(rooms, None) is rooms


def test_identity_and_stamp_cover_the_selection(rooms):
    one, other = Subset(rooms, [5, 2]), Subset(rooms, [2, 5])
    assert len({one.fingerprint(), other.fingerprint(), rooms.fingerprint()}) == 3
    assert len({one.stamp(), other.stamp(), rooms.stamp()}) == 3
    assert Subset(rooms, np.array([5, 2])).fingerprint() == one.fingerprint()


def test_places_outside_the_set_are_refused(rooms):
    with pytest.raises(BadInput, match="got index 7 for a subset of 'scenes': want 0 to 6"):
        Subset(rooms, [0, 7])
    with pytest.raises(BadInput, match="got count 0 for a subset of 'scenes': want at least 1"):
        spread_subset(rooms, 0)


def test_an_evaluation_set_leaves_out_what_its_settings_exclude():
    whole = open_one("rooms", Set(split="val", size=16, count=7), cache=None)
    less = open_one("rooms", Set(split="val", size=16, count=7, exclude=["val/000002", "val/000005"]), cache=None)
    assert [less.key(index) for index in range(len(less))] == [f"val/00000{number}" for number in (0, 1, 3, 4, 6)]
    assert np.array_equal(less.image(2), whole.image(3))
    assert less.fingerprint() != whole.fingerprint()
    assert line("rooms/val", less.found()) == (
        "rooms/val: 5 images, 6 classes, 11 pixel classes, depth, surfaces; skipped 2: 2 excluded (val/000002)"
    )
    with pytest.raises(BadInput, match=r"got exclude=val/9 for set 'rooms', split 'val': want the names of images"):
        open_one("rooms", Set(split="val", size=16, count=7, exclude=["val/9"]), cache=None)


def test_a_set_of_files_without_some_of_them_keeps_masks_beside_images_and_is_questioned_as_before(tmp_path):
    for number in range(12):
        for folder, mode in (("images", "RGB"), ("annotations", "L")):
            path = tmp_path / "set" / folder / "training" / f"{number:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            level = number % 2 if mode == "L" else number
            image = np.full((20, 20) if mode == "L" else (20, 20, 3), level, np.uint8)
            Image.fromarray(image).save(path)
    settings = Set(
        kind="ade20k", root=str(tmp_path / "set"), classes=["back", "front"], exclude=["images/training/03.png"]
    )
    left = open_one("set", settings, cache=None)
    assert (len(left), left.key(3), int(left.image(3)[0, 0, 0])) == (11, "images/training/04.png", 4)
    assert left.mask_values(3)[0, 0] == 0
    assert left.found().skipped == {"excluded": ["images/training/03.png"]}
    with pytest.raises(BadInput, match="labels: from_zero"):
        refuse_misread_masks([left], [])


def test_a_list_of_excluded_files_serves_every_split_and_count_and_what_it_names_is_not_looked_at(tmp_path):
    for split in ("train", "val"):
        for number in range(6):
            path = tmp_path / split / "cat" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    Image.fromarray(np.full((8, 8), 100, np.uint16)).save(tmp_path / "train" / "cat" / "0.png")  # 100 of 65535?
    asked = {"kind": "folder", "root": str(tmp_path), "exclude": ["train/cat/0.png", "train/cat/1.png"]}
    with pytest.raises(BadInput, match="set bits"):
        open_one("cats", Set(**asked | {"exclude": []}), cache=None)
    for leave_out, images in ((True, 4), (False, 6)):
        assert len(open_one("cats", Set(**asked), cache=None, leave_out=leave_out)) == images
    assert len(open_one("cats", Set(split="val", **asked), cache=None)) == 6
    spread = open_one("cats", Set(count=3, **asked), cache=None)
    assert [spread.key(index) for index in range(len(spread))] == ["train/cat/2.png", "train/cat/4.png"]
    asked["exclude"].append("train/cat/7.png")
    with pytest.raises(BadInput, match=r"got exclude=train/cat/7\.png for set 'cats'"):
        open_one("cats", Set(**asked), cache=None)
