import pytest

from common.errors import BadInput
from evals.datasets.layouts.partners import partners, strays


def test_all_missing_partners_are_counted(tmp_path):
    images = [tmp_path / "images" / f"{number}.jpg" for number in range(6)]
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "2.png").touch()
    message = r"got no mask for 5 of the 6 images in .*images \(0\.jpg, 1\.jpg, 3\.jpg and 2 more\): "
    with pytest.raises(BadInput, match=message + r"want .*masks.0\.png and so on \(a layout\); finish the download"):
        partners(images, tmp_path / "masks", what="mask", layout="a layout")
    with pytest.raises(BadInput, match=r"got no mask for .*images.0\.jpg: want .*masks.0\.png \(a layout\); add it or"):
        partners(images[:1], tmp_path / "masks", what="mask", layout="a layout")
    assert partners(images[2:3], tmp_path / "masks", what="mask", layout="x") == [tmp_path / "masks" / "2.png"]


def test_files_without_an_image_are_strays(tmp_path):
    for name in ("images/a.jpg", "masks/a.png", "masks/b.png", "masks/.hidden.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert strays(tmp_path / "images", tmp_path / "masks") == [tmp_path / "masks" / "b.png"]


@pytest.mark.parametrize("suffix", [".PNG", ".tif", ".TIFF", ".npy", ".bmp"])
def test_partners_may_be_any_file_that_keeps_values_in_either_case(tmp_path, suffix):
    images = [tmp_path / "images" / f"{number}.jpg" for number in range(3)]
    (tmp_path / "masks").mkdir()
    wanted = [tmp_path / "masks" / f"{number}{suffix}" for number in range(3)]
    for path in wanted:
        path.touch()
    assert partners(images, tmp_path / "masks", what="mask", layout="x") == wanted
    (tmp_path / "masks" / "2.json").touch()
    assert partners(images, tmp_path / "masks", what="mask", layout="x") == wanted


@pytest.mark.parametrize("names", [("1.npy", "1.png"), ("1.PNG", "1.png"), ("1.npy", "1.npz"), ("1.png", "1.tif")])
def test_two_files_of_one_image_are_refused_by_both_their_names(tmp_path, names):
    images = [tmp_path / "images" / f"{number}.jpg" for number in range(2)]
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for name in ("0.png", *names):
        (tmp_path / "masks" / name).touch()
    one, other = names
    with pytest.raises(
        BadInput, match=rf"got .*masks.{one} and {other}: want one mask of a name; remove or rename one"
    ):
        partners(images, tmp_path / "masks", what="mask", layout="x")
    assert partners(images[:1], tmp_path / "masks", what="mask", layout="x") == [tmp_path / "masks" / "0.png"]
    assert [path.name for path in strays(tmp_path / "images", tmp_path / "masks")] == ["0.png", *names]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("{}.jpg", r"there lie 0\.jpg, 1\.jpg, 2\.jpg and 5 more: JPEG and GIF do not keep values: save them as PNG"),
        ("{}.json", r"there lie 0\.json, .*: outlines are no mask: draw them as PNG"),
        ("{}.exr", r"there lie 0\.exr, .*: convert each to \.npy, in metres"),
        ("{}.WEBP", r"there lie 0\.WEBP, .*: convert them to PNG"),
        ("{}_mask.png", r"there lie 0_mask\.png, .* and 5 more: give each the name of its image"),
        ("instances{}.json", r"there lie instances0\.json, .*: outlines are no mask"),
        ("notes{}.doc", r"finish the download"),
    ],
)
def test_what_lies_in_place_of_masks_is_named(tmp_path, names, message):
    images = [tmp_path / "images" / f"{number}.jpg" for number in range(8)]
    (tmp_path / "masks").mkdir()
    for number in range(8):
        (tmp_path / "masks" / names.format(number)).touch()
    with pytest.raises(BadInput, match=r"got no mask for 8 of the 8 images .*: want .*0\.png and so on .*" + message):
        partners(images, tmp_path / "masks", what="mask", layout="x")


def test_one_mask_of_another_kind_is_named(tmp_path):
    images = [tmp_path / "images" / f"{number}.jpg" for number in range(2)]
    (tmp_path / "masks").mkdir()
    for name in ("0.png", "1.jpg"):
        (tmp_path / "masks" / name).touch()
    with pytest.raises(BadInput, match=r"got no mask for .*1\.jpg: want .*1\.png \(x\); there lie 1\.jpg: JPEG and"):
        partners(images, tmp_path / "masks", what="mask", layout="x")


def test_what_lies_where_a_folder_of_masks_is_missing_is_named(tmp_path):
    (tmp_path / "images" / "training").mkdir(parents=True)
    (tmp_path / "labels").mkdir()
    images, folder = [tmp_path / "images" / "training" / "a.jpg"], tmp_path / "annotations" / "training"
    message = r"got mask folder .*annotations.training \(missing\): want x; "
    with pytest.raises(BadInput, match=message + "there are the folders labels: give the right one this name"):
        partners(images, folder, what="mask", layout="x")
    folder.parent.mkdir()
    with pytest.raises(BadInput, match=message + "correct the path"):
        partners(images, folder, what="mask", layout="x")
    (folder.parent / "instances_train.json").touch()
    with pytest.raises(
        BadInput, match=message + r".*annotations holds instances_train\.json, and outlines are no mask"
    ):
        partners(images, folder, what="mask", layout="x")
