import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import open_set

HEIGHT, WIDTH = 4, 6
TRAIN, TEST = "nyudepthv2_train_files_with_gt.txt", "nyudepthv2_test_files_with_gt.txt"


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def put_pair(folder, scene, number):
    put(folder / scene / f"rgb_{number:05d}.jpg", np.full((HEIGHT, WIDTH, 3), number, dtype=np.uint8))
    put(folder / scene / f"sync_depth_{number:05d}.png", np.full((HEIGHT, WIDTH), 1000 + number, dtype=np.uint16))


def line(scene, number, slash="/"):
    rgb, depth = (f"{slash}{scene}/{part}_{number:05d}" for part in ("rgb", "sync_depth"))
    return f"{rgb}.jpg {depth}.png 518.8579\n"


@pytest.fixture
def bts(tmp_path):
    root = tmp_path / "nyu"
    for number in (7, 3, 9):
        put_pair(root / "sync", "den_0001", number)
    put_pair(root / "test", "den", 45)
    (root / TRAIN).write_text(line("den_0001", 7) + line("den_0001", 3) + line("den_0001", 9))
    (root / TEST).write_text(line("den", 45, slash=""))
    return root


def test_a_list_gives_images_in_its_order_and_depth_in_metres(bts):
    train, test = open_set("nyu", root=bts), open_set("nyu", root=bts, split="val")
    assert [train.key(index) for index in range(3)] == [f"sync/den_0001/rgb_{n:05d}.jpg" for n in (7, 3, 9)]
    assert [train.image(index)[0, 0, 0] for index in range(3)] == [7, 3, 9]
    np.testing.assert_allclose(train.depth(1), np.full((HEIGHT, WIDTH), 1.003), rtol=1e-6)
    assert (train.depth(1).dtype, train.has_depth, train.segments, train.classes) == (np.float32, True, (), ())
    assert (len(test), test.key(0), test.depth(0)[0, 0]) == (1, "test/den/rgb_00045.jpg", np.float32(1.045))
    assert len(open_set("nyu", root=bts, split="test")) == 1


@pytest.mark.parametrize("folder", ["", "sync", "train", "official_splits/train"])
def test_training_files_are_found_below_any_of_the_customary_folders(bts, folder):
    (bts / "sync").rename(bts / "kept")
    (bts / folder).mkdir(parents=True, exist_ok=True)
    (bts / "kept" / "den_0001").rename(bts / folder / "den_0001")
    assert open_set("nyu", root=bts).image(2)[0, 0, 0] == 9


@pytest.mark.parametrize("folder", ["", "test", "official_splits/test"])
def test_test_files_are_found_below_any_of_the_customary_folders(bts, folder):
    (bts / "test").rename(bts / "kept")
    (bts / folder).mkdir(parents=True, exist_ok=True)
    (bts / "kept" / "den").rename(bts / folder / "den")
    assert open_set("nyu", root=bts, split="val").image(0)[0, 0, 0] == 45


def test_lists_under_their_other_names_are_read(bts):
    (bts / TRAIN).rename(bts / "nyu_train.txt")
    (bts / TEST).rename(bts / "nyu_test.txt")
    assert (len(open_set("nyu", root=bts)), len(open_set("nyu", root=bts, split="val"))) == (3, 1)


def test_lines_without_depth_and_repeated_ones_are_left_out_and_told(bts):
    with (bts / TRAIN).open("a") as file:
        file.write("/den_0001/rgb_00001.jpg None 518.8579\n\n" + line("den_0001", 7))
    dataset = open_set("nyu", root=bts)
    assert (len(dataset), dataset.skipped) == (3, 2)
    assert dataset.notes() == [f"2 lines of {bts / TRAIN} without depth, or repeated, are left out"]
    assert open_set("nyu", root=bts, split="val").notes() == []


def test_missing_files_of_a_list_are_counted_and_the_layout_is_shown(bts):
    (bts / "sync" / "den_0001" / "rgb_00003.jpg").unlink()
    (bts / "sync" / "den_0001" / "sync_depth_00009.png").unlink()
    message = r"got no file for 2 of the 6 names in .*train_files_with_gt\.txt \(in .*sync: den_0001/rgb_00003\.jpg, "
    message += r"den_0001/sync_depth_00009\.png\): want .*sync/SCENE/rgb_\*\.jpg.*; finish the download"
    with pytest.raises(BadInput, match=message):
        open_set("nyu", root=bts)


def test_a_list_without_any_of_its_images_names_where_they_were_looked_for(bts):
    (bts / "sync").rename(bts / "elsewhere")
    with pytest.raises(BadInput, match=r"got none of the images of .*\(den_0001/rgb_00007.jpg.*\) in .*sync.*: want"):
        open_set("nyu", root=bts)


def test_a_missing_list_is_named_with_what_makes_it(bts):
    (bts / TEST).unlink()
    with pytest.raises(BadInput, match=rf"got no {TEST} in .* for split 'val': want .*`evals/prepare.py nyu` makes it"):
        open_set("nyu", root=bts, split="val")
    with pytest.raises(BadInput, match=r"got split 'tset' for .*: want one of train, training, val, validation, test"):
        open_set("nyu", root=bts, split="tset")


@pytest.mark.parametrize("bad", ["one_field_only", "../up/rgb_1.jpg up/sync_depth_1.png 1"])
def test_a_line_that_is_none_is_named_by_its_number(bts, bad):
    with (bts / TRAIN).open("a") as file:
        file.write(bad + "\n")
    with pytest.raises(BadInput, match=r"got line 4 of .*train_files_with_gt\.txt, .*: want `rgb_path depth_path"):
        open_set("nyu", root=bts)
    (bts / TRAIN).write_text("a/rgb.jpg None 1\n")
    with pytest.raises(BadInput, match=r"got no image with depth in"):
        open_set("nyu", root=bts)


def test_the_lists_have_no_masks(bts):
    with pytest.raises(BadInput, match=r"without masks: want a set with annotations/"):
        open_set("nyu", root=bts).mask(0)
    with pytest.raises(BadInput, match=r"got classes for the file lists in .*: want none"):
        open_set("nyu", root=bts, classes=["nyu40"])


def test_count_spreads_over_the_list(bts):
    dataset = open_set("nyu", root=bts, count=2)
    assert [dataset.image(index)[0, 0, 0] for index in range(2)] == [7, 3]
