import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.layouts.ade20k import NYU40

HEIGHT, WIDTH = 4, 6
MILLIMETRES = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) * 400).astype(np.uint16)


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def flat(tmp_path):
    root = tmp_path / "flat"
    for name in ("0001", "0002"):
        put(root / "images" / "training" / f"{name}.jpg", np.zeros((HEIGHT, WIDTH, 3), dtype=np.uint8))
        put(root / "depth" / "training" / f"{name}.png", MILLIMETRES)
    return root


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def mat(tmp_path, pictures):
    """Five images as MATLAB writes them: axes reversed."""
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    with h5py.File(path, "w") as file:
        file["images"] = pictures.transpose(0, 3, 2, 1)
        depths = np.stack([MILLIMETRES / 1000 + number for number in range(5)]).astype(np.float32)
        depths[2, 1, 3] = np.nan
        file["depths"] = depths.transpose(0, 2, 1)
        labels = np.arange(5 * HEIGHT * WIDTH).reshape(5, HEIGHT, WIDTH) % 8
        file["labels"] = labels.astype(np.uint16).transpose(0, 2, 1)
    return path


def test_millimetres_become_metres_and_zero_stays_unknown(flat):
    dataset = open_set("nyu", root=flat)
    depth = dataset.depth(1)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, MILLIMETRES / 1000, rtol=1e-6)
    assert depth[0, 0] == 0
    assert (dataset.has_depth, dataset.segments, dataset.classes, dataset.name) == (True, (), (), "flat")
    assert dataset.key(1) == "images/training/0002.jpg"


def test_annotations_are_read_where_there_are_some(flat):
    with pytest.raises(BadInput, match=r"got set 'flat' without masks: want .*annotations"):
        open_set("nyu", root=flat).mask(0)
    for name in ("0001", "0002"):
        put(flat / "annotations" / "training" / f"{name}.png", (MILLIMETRES // 400).astype(np.uint8))
    dataset = open_set("nyu", root=flat)
    assert dataset.segments == NYU40
    assert dataset.mask(0)[0].tolist() == [255, 0, 1, 2, 3, 4]


def test_missing_and_unfit_depth_is_named(flat):
    put(flat / "depth" / "training" / "0001.png", MILLIMETRES[:2])
    put(flat / "depth" / "training" / "0002.png", MILLIMETRES.astype(np.uint8))
    dataset = open_set("nyu", root=flat)
    with pytest.raises(BadInput, match=r"got .*0001\.png of 6 x 2 pixels: want 6 x 4 as .*0001\.jpg"):
        dataset.depth(0)
    with pytest.raises(BadInput, match=r"got .*0002\.png in mode L: want 16 bits of millimetres"):
        dataset.depth(1)
    (flat / "depth" / "training" / "0002.png").unlink()
    with pytest.raises(BadInput, match=r"got no depth for .*0002\.jpg: want .*0002\.png"):
        open_set("nyu", root=flat)


def test_a_folder_without_the_layout_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"got root .*no \(missing\)"):
        open_set("nyu", root=tmp_path / "no")
    with pytest.raises(BadInput, match=r"got image folder .*images \(missing\)"):
        open_set("nyu", root=tmp_path)


def test_the_mat_file_is_turned_upright(mat, pictures):
    for root in (mat, mat.parent):
        dataset = open_set("nyu", root=root, split="all")
        assert (len(dataset), dataset.name, dataset.key(4)) == (5, "nyuv2", "0005")
        np.testing.assert_array_equal(dataset.image(3), pictures[3])
        assert dataset.image(3).dtype == np.uint8
        assert dataset.depth(3)[1, 2] == pytest.approx(0.4 * (WIDTH + 2) + 3)
        assert dataset.depth(3).dtype == np.float32


def test_depth_that_is_no_number_is_unknown(mat):
    depth = open_set("nyu", root=mat, split="all").depth(2)
    assert depth[1, 3] == 0
    assert (depth > 0).sum() == HEIGHT * WIDTH - 1


def test_measured_depth_is_preferred_to_the_filled_one(mat):
    with h5py.File(mat, "a") as file:
        measured = file["depths"][:]
        measured[:, :3] = 0
        file["rawDepths"] = measured
    depth = open_set("nyu", root=mat, split="all").depth(3)
    np.testing.assert_array_equal(depth[:, :3], 0)
    np.testing.assert_allclose(depth[:, 3:], MILLIMETRES[:, 3:] / 1000 + 3, rtol=1e-6)


def test_a_file_without_kinds_of_rooms_is_named(mat):
    with pytest.raises(BadInput, match=r"without 'sceneTypes'"):
        open_set("nyu", root=mat, split="all").room(0)


def test_kinds_of_rooms_are_read_from_the_file(mat):
    with h5py.File(mat, "a") as file:
        file["words"] = np.array([[ord(letter)] for letter in "living_room"], dtype=np.uint16)
        file["sceneTypes"] = np.array([[file["words"].ref] * 5], dtype=h5py.ref_dtype)
    assert open_set("nyu", root=mat, split="all").room(4) == "living_room"


def test_the_stamp_follows_the_files_beside_the_mat(mat):
    dataset = open_set("nyu", root=mat, split="all")
    before = dataset.stamp(), dataset.fingerprint()
    assert dataset.stamp() == before[0]
    savemat(mat.with_name("splits.mat"), {"trainNdxs": np.array([[1]])})
    assert dataset.stamp() != before[0]
    assert dataset.fingerprint() == before[1]


def test_the_official_split_is_read_from_a_file_beside_the_mat(mat, pictures):
    splits = {"trainNdxs": np.array([[1], [4], [5]]), "testNdxs": np.array([[2], [3]])}
    savemat(mat.with_name("splits.mat"), splits)
    train, test = open_set("nyu", root=mat), open_set("nyu", root=mat, split="val")
    assert [train.key(index) for index in range(3)] == ["0001", "0004", "0005"]
    np.testing.assert_array_equal(test.image(1), pictures[2])
    assert train.fingerprint() != test.fingerprint()
    with h5py.File(mat.with_name("splits.mat"), "w") as file:
        file["trainNdxs"], file["testNdxs"] = np.array([[2.0]]), np.array([[1.0]])
    assert open_set("nyu", root=mat).key(0) == "0002"


def test_without_split_file_only_all_images_can_be_opened(mat):
    with pytest.raises(
        BadInput, match=r"got split 'train' for .*want splits\.mat beside it; add it or use split 'all'"
    ):
        open_set("nyu", root=mat)
    with pytest.raises(
        BadInput, match=r"got split 'tran' for .*: want one of train, training, val, validation, test, all"
    ):
        open_set("nyu", root=mat, split="tran")
    savemat(mat.with_name("splits.mat"), {"trainNdxs": np.array([[9]])})
    with pytest.raises(BadInput, match=r"got numbers outside 1 to 5 in .*splits\.mat"):
        open_set("nyu", root=mat)
    with pytest.raises(BadInput, match=r"splits\.mat without a readable 'testNdxs'"):
        open_set("nyu", root=mat, split="test")


def test_the_labelled_file_has_no_surfaces(mat):
    dataset = open_set("nyu", root=mat, split="all")
    assert not dataset.has_surfaces
    with pytest.raises(BadInput, match=r"got set 'nyuv2' without surface normals and parts: want kind scenes"):
        dataset.surfaces(0)


def test_raw_labels_are_mapped_to_the_forty_classes_of_a_file_beside_the_mat(mat):
    with pytest.raises(BadInput, match=r"without masks: want classMapping40\.mat"):
        open_set("nyu", root=mat, split="all").mask(0)
    savemat(mat.with_name("classMapping40.mat"), {"mapClass": np.array([[40, 1, 39, 2, 2, 3, 3]])})
    dataset = open_set("nyu", root=mat, split="all")
    assert dataset.segments == NYU40
    assert dataset.mask(0).ravel()[:8].tolist() == [255, 255, 0, 38, 1, 1, 2, 2]


def test_labels_can_be_named_directly(mat):
    dataset = open_set("nyu", root=mat, split="all", classes=list("abcdefg"))
    assert dataset.mask(0).ravel()[:8].tolist() == [255, 0, 1, 2, 3, 4, 5, 6]
    with pytest.raises(BadInput, match=r"got label 7 in image 0001 of .*: want 0 to 3"):
        open_set("nyu", root=mat, split="all", classes=list("abc")).mask(0)


def test_count_takes_an_even_share_of_the_file(mat):
    dataset = open_set("nyu", root=mat, split="all", count=2)
    assert [dataset.key(index) for index in range(2)] == ["0001", "0003"]


def test_the_set_travels_to_workers(mat, pictures):
    dataset = open_set("nyu", root=mat, split="all")
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(dataset)).image(4), pictures[4])


def test_bad_mat_files_are_named(tmp_path):
    with pytest.raises(BadInput, match=r"got no file .*gone\.mat"):
        open_set("nyu", root=tmp_path / "gone.mat", split="all")
    (tmp_path / "old.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(BadInput, match=r"got unreadable file .*old\.mat: want a \.mat of version 7\.3"):
        open_set("nyu", root=tmp_path / "old.mat", split="all")
    with h5py.File(tmp_path / "half.mat", "w") as file:
        file["images"] = np.zeros((1, 3, 2, 2), dtype=np.uint8)
    with pytest.raises(BadInput, match=r"got .*half\.mat without 'depths'"):
        open_set("nyu", root=tmp_path / "half.mat", split="all")


def test_labels_are_refused(flat, mat):
    for dataset in (open_set("nyu", root=flat), open_set("nyu", root=mat, split="all")):
        with pytest.raises(BadInput, match=r"without image classes"):
            dataset.label(0)


def test_nyuv2_opens_with_its_counts():
    if "GRAMLAB_DATA" not in os.environ:
        pytest.skip("GRAMLAB_DATA is not set")
    root = Path(os.environ["GRAMLAB_DATA"]) / "nyuv2"
    train, val = (open_set("nyu", root=root, split=split) for split in ("train", "val"))
    assert (len(train), len(val), len(train.segments)) == (795, 654, 39)
    for index in range(0, 654, 100):
        image, mask, depth = val.image(index), val.mask(index), val.depth(index)
        assert image.shape[:2] == mask.shape == depth.shape == (192, 252)
        assert depth.max() <= 10.001


def claim(path, name, shape, kind):
    """A variable of that shape of which nothing is stored: any size in a few bytes."""
    with h5py.File(path, "a") as file:
        if name in file:
            del file[name]
        file.create_dataset(name, shape, kind, chunks=tuple(min(side, 64) for side in shape))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("images", (5, 3, 10**6, 10**6)),
        ("images", (5, 4, 6, 4)),
        ("images", (5, 3)),
        ("depths", (5, 10**6, 10**6)),
        ("labels", (5, 10**6, 10**6)),
    ],
)
def test_a_mat_file_of_images_of_absurd_size_is_refused_before_they_are_read(mat, name, shape):
    claim(mat, name, shape, "u1")
    assert mat.stat().st_size < 10**5
    with pytest.raises(BadInput, match=f"got '{name}' of .* values in .*: want NYU Depth v2's labelled file; fetch it"):
        open_set("nyu", root=mat, split="all")


def test_a_group_in_place_of_images_is_refused(mat):
    with h5py.File(mat, "a") as file:
        del file["images"]
        file.create_group("images")
    with pytest.raises(BadInput, match="got 'images' of no values in"):
        open_set("nyu", root=mat, split="all")


@pytest.mark.parametrize("old", [True, False])
def test_a_list_of_images_of_absurd_length_is_refused_before_it_is_read(mat, old):
    path = mat.with_name("splits.mat")
    if old:
        savemat(path, {"trainNdxs": np.zeros(3 * 10**6, np.uint8)}, do_compression=True)
    else:
        claim(path, "trainNdxs", (10**12,), "i8")
    assert path.stat().st_size < 10**5
    with pytest.raises(BadInput, match="without a readable 'trainNdxs'"):
        open_set("nyu", root=mat, split="train")


def test_a_group_in_place_of_a_list_is_refused(mat):
    with h5py.File(mat.with_name("splits.mat"), "w") as file:
        file.create_group("trainNdxs")
    with pytest.raises(BadInput, match="without a readable 'trainNdxs'"):
        open_set("nyu", root=mat, split="train")
