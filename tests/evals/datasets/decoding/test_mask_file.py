import re

import numpy as np
import pytest
from PIL import Image

from evals.datasets.catalogue import open_set
from evals.datasets.decoding.mask_file import read_mask
from evals.datasets.labelled_set import BeyondClasses
from evals.datasets.reading import Reading
from tests.evals.datasets.told import told

NAMES = ("sky", "sea", "sand")
FROM_ONE = np.array([[0, 1, 2], [3, 255, 1]], dtype=np.uint8)
FROM_ZERO = np.array([[255, 0, 1], [2, 255, 0]], dtype=np.uint8)
RED, GREEN, BLUE, BLACK = (200, 0, 0), (0, 200, 0), (0, 0, 200), (0, 0, 0)
PALETTE = {"sky": (RED,), "sea": (GREEN,), "sand": (BLUE,), "ignore": (BLACK,)}


def saved(path, pixels, mode=None):
    Image.fromarray(pixels, mode).save(path)
    return path


def coloured(values):
    """A mask that counts from 1 as colours, 0 and 255 black."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[1:4] = RED, GREEN, BLUE
    return colours[values]


def test_the_same_mask_is_read_alike_whatever_it_counts_from(tmp_path):
    one, zero = saved(tmp_path / "one.png", FROM_ONE), saved(tmp_path / "zero.png", FROM_ZERO)
    wanted = [[255, 0, 1], [2, 255, 0]]
    assert read_mask(one, NAMES).tolist() == read_mask(one, NAMES, Reading(labels="from_one")).tolist() == wanted
    assert read_mask(zero, NAMES, Reading(labels="from_zero")).tolist() == wanted
    assert read_mask(zero, NAMES, Reading(labels="from_zero")).dtype == np.uint8
    named = Reading(values={0: "sky", 1: "sea", 2: "sand"})
    assert read_mask(zero, NAMES, named).tolist() == wanted
    assert (
        read_mask(saved(tmp_path / "rgb.png", coloured(FROM_ONE)), NAMES, Reading(palette=PALETTE)).tolist() == wanted
    )


def test_values_may_be_sparse_share_a_class_belong_to_none_or_be_255(tmp_path):
    path = saved(tmp_path / "a.png", np.array([[0, 7, 24], [25, 26, 255]], dtype=np.uint8))
    reading = Reading(values={0: "ignore", 7: "road", 24: "person", 25: "person", 26: "road", 255: "lesion"})
    assert reading.named() == ("road", "person", "lesion")
    assert read_mask(path, reading.named(), reading).tolist() == [[255, 0, 1], [1, 0, 2]]


def test_other_values_than_255_are_ignored_where_the_set_says_so(tmp_path):
    path = saved(tmp_path / "a.png", np.array([[0, 1, 2], [9, 9, 1]], dtype=np.uint8))
    assert read_mask(path, NAMES, Reading(labels="from_zero", ignore=9)).tolist() == [[0, 1, 2], [255, 255, 1]]
    assert read_mask(path, NAMES, Reading(ignore=(9, 1))).tolist() == [[255, 255, 1], [255, 255, 255]]
    saved(path, FROM_ZERO)
    message = told(lambda: read_mask(path, NAMES, Reading(labels="from_zero", ignore=9)), BeyondClasses)
    assert "got value 255 in" in message
    assert "want 0 to 3 (one per class) or 9; correct classes" not in message
    assert "want 0 to 2 (one per class) or 9; correct classes" in message


def test_a_value_beyond_the_classes_is_refused_whatever_masks_count_from(tmp_path):
    path = saved(tmp_path / "a.png", FROM_ONE)
    message = told(lambda: read_mask(path, NAMES, Reading(labels="from_zero")), BeyondClasses)
    assert re.search(r"got value 3 in \S*a\.png: want 0 to 2 \(one per class\) or 255; correct classes", message)
    message = told(lambda: read_mask(path, NAMES[:2], Reading(values={1: "sky", 2: "sea"})), BeyondClasses)
    assert re.search(r"got value 3 in \S*a\.png: want 1, 2 or 255; add it to values, as `ignore` if no", message)


def test_a_colour_of_no_class_is_refused_by_file_and_colour(tmp_path):
    pixels = coloured(FROM_ONE)
    pixels[0, 0] = 127, 64, 3
    path = saved(tmp_path / "a.png", pixels)
    message = told(lambda: read_mask(path, NAMES, Reading(palette=PALETTE)))
    assert re.search(
        r"got colour \[127, 64, 3\] in \S*a\.png \(16\.67% of it is of no class\): want those of pal", message
    )


def test_several_colours_may_be_one_class(tmp_path):
    reading = Reading(palette={"warm": (RED, GREEN), "cold": BLUE, "ignore": BLACK})
    path = saved(tmp_path / "a.png", coloured(FROM_ONE))
    assert read_mask(path, reading.named(), reading).tolist() == [[255, 0, 0], [1, 255, 0]]


def test_colours_are_read_from_opaque_rgba_and_from_pictures_with_a_palette(tmp_path):
    picture, wanted = Image.fromarray(coloured(FROM_ONE)), [[255, 0, 1], [2, 255, 0]]
    picture.convert("RGBA").save(tmp_path / "rgba.png")
    picture.quantize(8).save(tmp_path / "p.png")
    for name in ("rgba.png", "p.png"):
        assert read_mask(tmp_path / name, NAMES, Reading(palette=PALETTE)).tolist() == wanted
    clear = picture.convert("RGBA")
    clear.putpixel((0, 0), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert "clear.png with transparent parts" in told(
        lambda: read_mask(tmp_path / "clear.png", NAMES, Reading(palette=PALETTE))
    )


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".pgm", ".npy", ".npz"])
def test_masks_are_read_from_every_kind_of_file_that_keeps_values(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    if suffix == ".npy":
        np.save(path, FROM_ONE.astype(np.int64)[None])
    elif suffix == ".npz":
        np.savez_compressed(path, mask=FROM_ONE)
    else:
        saved(path, FROM_ONE)
    assert read_mask(path, NAMES).tolist() == [[255, 0, 1], [2, 255, 0]]


def test_masks_of_sixteen_bits_and_of_one_are_read(tmp_path):
    wide = saved(tmp_path / "wide.png", np.array([[0, 1000], [2000, 255]], dtype=np.uint16))
    reading = Reading(values={0: "ignore", 1000: "car", 2000: "person"})
    assert read_mask(wide, reading.named(), reading).tolist() == [[255, 0], [1, 255]]
    assert "got value 2000 in" in told(lambda: read_mask(wide, NAMES), BeyondClasses)
    Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).convert("1").save(tmp_path / "bit.png")
    assert read_mask(tmp_path / "bit.png", ("a", "b"), Reading(labels="from_zero")).tolist() == [[0, 1]]
    np.save(tmp_path / "bool.npy", np.array([[False, True]]))
    assert read_mask(tmp_path / "bool.npy", ("a", "b"), Reading(labels="from_zero")).tolist() == [[0, 1]]
    np.save(tmp_path / "below.npy", np.array([[-1, 70000]], dtype=np.int32))
    assert "got value 70000 in" in told(lambda: read_mask(tmp_path / "below.npy", NAMES), BeyondClasses)


def test_files_that_hold_no_mask_are_refused_by_name(tmp_path):
    saved(tmp_path / "a.jpg", FROM_ONE)
    (tmp_path / "a.jpg").rename(tmp_path / "jpeg.png")
    saved(tmp_path / "a.gif", FROM_ONE)
    (tmp_path / "a.gif").rename(tmp_path / "gif.png")
    pages = [Image.fromarray(FROM_ONE), Image.fromarray(FROM_ONE)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    saved(tmp_path / "grey.tif", FROM_ONE.astype(np.float32))
    np.save(tmp_path / "float.npy", FROM_ONE.astype(np.float32))
    np.save(tmp_path / "flat.npy", FROM_ONE.ravel())
    np.savez(tmp_path / "two.npz", a=FROM_ONE, b=FROM_ONE)
    (tmp_path / "cut.npy").write_bytes((tmp_path / "flat.npy").read_bytes()[:100])
    (tmp_path / "empty.npy").touch()
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, message in {
        "jpeg.png": "a JPEG, for a mask: want a format that keeps values; save it as PNG",
        "gif.png": "a GIF, for a mask",
        "pages.tif": "of several pages for a mask",
        "grey.tif": "in mode F: want an 8-bit mask",
        "float.npy": "of float32: want whole numbers",
        "flat.npy": "of 6 values of uint8: want rows and columns",
        "two.npz": "of 2 arrays (a, b): want one",
        "cut.npy": "unreadable array",
        "empty.npy": "(empty)",
        "object.npy": "unreadable array",
        "none.npy": "got no file",
    }.items():
        found = told(lambda name=name: read_mask(tmp_path / name, NAMES))
        assert message in found
        assert name in found


@pytest.fixture
def beach(tmp_path):
    for folder, pixels in (("images", np.zeros((2, 3, 3), dtype=np.uint8)), ("annotations", FROM_ZERO)):
        (tmp_path / "beach" / folder / "training").mkdir(parents=True)
        saved(tmp_path / "beach" / folder / "training" / "a.png", pixels)
    return tmp_path / "beach"


def test_a_set_is_read_as_it_says_and_its_fingerprint_follows(beach):
    usual = open_set("ade20k", root=beach, classes=NAMES)
    zero = open_set("ade20k", root=beach, classes=NAMES, reading=Reading(labels="from_zero"))
    assert zero.mask(0).tolist() == [[255, 0, 1], [2, 255, 0]] != usual.mask(0).tolist()
    assert zero.fingerprint() != usual.fingerprint() == open_set("ade20k", root=beach, classes=NAMES).fingerprint()


def test_values_and_colours_name_the_classes_and_a_list_may_order_them(beach):
    reading = Reading(values={0: "sky", 1: "sea", 2: "sand"})
    assert open_set("ade20k", root=beach, reading=reading).segments == ("sky", "sea", "sand")
    ordered = open_set("ade20k", root=beach, classes=["sand", "sky", "sea"], reading=reading)
    assert ordered.segments == ("sand", "sky", "sea")
    assert ordered.mask(0).tolist() == [[255, 1, 2], [0, 255, 1]]
    for classes, message in (
        (["sand", "sky"], "'sea' in values or palette alone"),
        ([*NAMES, "x"], "'x' in classes al"),
    ):
        assert message in told(lambda classes=classes: open_set("ade20k", root=beach, classes=classes, reading=reading))


def test_settings_of_masks_and_depth_are_refused_where_there_are_none(beach):
    message = told(lambda: open_set("ade20k", root=beach, reading=Reading(depth_scale=5000)))
    assert re.search(r"got depth_scale for \S*beach: want none, it has no depth; leave depth_scale out", message)
    assert "it has no masks" in told(
        lambda: open_set("folder", root=beach / "images", reading=Reading(labels="from_zero"))
    )
    assert "got labels for a set of kind 'scenes'" in told(
        lambda: open_set("scenes", reading=Reading(labels="from_zero"))
    )


def test_the_number_behind_the_last_class_may_be_what_has_no_label(tmp_path):
    path = tmp_path / "void.png"
    Image.fromarray(np.array([[0, 10, 11, 11]], dtype=np.uint8)).save(path)
    names = [f"class {number}" for number in range(11)]
    message = told(lambda: read_mask(path, names, Reading(labels="from_zero")), BeyondClasses)
    assert "want 0 to 10 (one per class) or 255; correct classes" in message
    assert message.endswith(", or write `ignore: 11` if that is what has no label")
    message = told(lambda: read_mask(path, names, Reading(labels="from_zero", ignore=[10])), BeyondClasses)
    assert "write `ignore: [10, 11]`" in message
    found = read_mask(path, names, Reading(labels="from_zero", ignore=[11]))
    assert found.tolist() == [[0, 10, 255, 255]]
    assert "ignore:" not in told(lambda: read_mask(path, names[:9], Reading(labels="from_zero")), BeyondClasses)
