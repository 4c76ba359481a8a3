import io
import os
import shutil
import stat
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from common.errors import BadInput
from evals.datasets.catalogue import open_named, open_set
from evals.datasets.preparing import nyu
from evals.datasets.preparing.target import Target
from evals.prepare import main

HEIGHT, WIDTH = 12, 16
TEST_ROWS, TRAIN_ROWS = [1, 2], [0, 3, 4]


def picture(number):
    """A smooth image, so that JPEG changes it little."""
    ramp = np.linspace(0, 120, HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    return np.stack([ramp + 10 * number, ramp, 200 - ramp], axis=-1).astype(np.uint8)


def as_bytes(pixels, kind):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def run(capsys, *words):
    """Exit code, output and complaint of the command."""
    code = main([str(word) for word in words])
    out, err = capsys.readouterr()
    _, sign, complaint = err.partition("gramlab: ")  # of several lines where several splits are at fault
    return code, out, (sign + complaint).rstrip("\n")


@pytest.fixture
def members():
    """Files of the scene-parsing set by their names in its archive; all 150 classes occur."""
    values = (np.arange(HEIGHT * WIDTH) % 151).astype(np.uint8).reshape(HEIGHT, WIDTH)
    found = {}
    for split, short in (("training", "train"), ("validation", "val")):
        for number in (1, 2):
            stem = f"{split}/ADE_{short}_{number:08d}"
            found[f"ADEChallengeData2016/images/{stem}.jpg"] = as_bytes(picture(number), "JPEG")
            found[f"ADEChallengeData2016/annotations/{stem}.png"] = as_bytes(values, "PNG")
    return {**found, "ADEChallengeData2016/objectInfo150.txt": b"Idx\n", "ADEChallengeData2016/other.bin": b"x"}


def zipped(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def downloads(tmp_path, members):
    zipped(tmp_path / "downloads" / "ADEChallengeData2016.zip", members)
    return tmp_path / "downloads"


@pytest.fixture
def labelled(tmp_path):
    """The labelled part of NYU Depth v2 as published: five images, axes reversed, split and mapping beside it."""
    folder = tmp_path / "nyu_downloads"
    folder.mkdir()
    with h5py.File(folder / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = np.stack([picture(number) for number in range(5)]).transpose(0, 3, 2, 1)
        file["rawDepths"] = np.stack([metres(number) for number in range(5)]).transpose(0, 2, 1)
        file["depths"] = np.stack([np.where(metres(n) > 0, metres(n), 5) for n in range(5)]).transpose(0, 2, 1)
        file["labels"] = np.stack([labels(number) for number in range(5)]).transpose(0, 2, 1)
        rooms = []
        for number in range(5):
            name = "den" if number % 2 else "living_room"
            file[f"room{number}"] = np.array([[ord(letter)] for letter in name], dtype=np.uint16)
            rooms.append(file[f"room{number}"].ref)
        file["sceneTypes"] = np.array([rooms], dtype=h5py.ref_dtype)
    rows = {"trainNdxs": TRAIN_ROWS, "testNdxs": TEST_ROWS}
    savemat(folder / "splits.mat", {name: np.array([[row + 1] for row in part]) for name, part in rows.items()})
    savemat(folder / "classMapping40.mat", {"mapClass": np.array([[*range(1, 41), 40]])})
    return folder


def metres(number):
    """Measured depth with holes, in quarters of a metre, which float32 holds exactly."""
    depth = (np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH) % 30 * 0.25 + number * 0.25).astype(np.float32)
    depth[:2] = 0
    return depth


def labels(number):
    return ((np.arange(HEIGHT * WIDTH) + number) % 42).astype(np.uint16).reshape(HEIGHT, WIDTH)


def snapshot(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_without_a_task_the_downloads_are_listed(capsys):
    code, out, _ = run(capsys)
    assert code == 0
    for word in (
        "ade20k:",
        "ADEChallengeData2016.zip",
        "0.9 GB",
        "nyu_depth_v2_labeled.mat",
        "2,972,037,809",
        "https://",
    ):
        assert word in out


def test_the_archive_of_ade20k_becomes_its_published_layout(capsys, downloads, members, tmp_path):
    folder = tmp_path / "set"
    code, out, err = run(capsys, "ade20k", "--from", downloads, "--to", folder)
    assert (code, err) == (0, "")
    wanted = {name.partition("/")[2]: data for name, data in members.items() if not name.endswith("other.bin")}
    assert snapshot(folder) == wanted
    assert "9 files written, 0 were there" in out
    assert "2 of the 20,210 images" in out
    assert out.splitlines()[-1].endswith(f"ade20k --data ade20k={folder}")
    dataset = open_named("ade20k", root=folder, split="val")
    assert (len(dataset), dataset.mask(0)[0, :3].tolist()) == (2, [255, 0, 1])


def test_preparing_again_keeps_what_is_right_and_adds_what_is_missing(capsys, downloads, tmp_path):
    folder = tmp_path / "set"
    run(capsys, "ade20k", "--from", downloads, "--to", folder)
    before = snapshot(folder)
    (folder / "images" / "training" / "ADE_train_00000002.jpg").unlink()
    states = {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")}
    code, out, _ = run(capsys, "ade20k", "--from", downloads / "ADEChallengeData2016.zip", "--to", folder)
    assert (code, "1 files written, 8 were there" in out) == (0, True)
    assert snapshot(folder) == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.png")} == states


def test_a_file_of_other_content_is_named_and_left_alone(capsys, downloads, tmp_path):
    folder = tmp_path / "set"
    (folder / "annotations" / "training").mkdir(parents=True)
    mine = folder / "annotations" / "training" / "ADE_train_00000001.png"
    mine.write_bytes(b"mine")
    code, _, err = run(capsys, "ade20k", "--from", downloads, "--to", folder)
    assert (code, mine.read_bytes()) == (2, b"mine")
    assert "got 1 files of other content in" in err
    assert "(annotations/training/ADE_train_00000001.png): want those of the download, or none" in err


def test_an_unpacked_folder_is_linked_without_copying(capsys, downloads, tmp_path):
    with zipfile.ZipFile(downloads / "ADEChallengeData2016.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    code, out, _ = run(capsys, "ade20k", "--from", tmp_path / "unpacked", "--to", tmp_path / "set")
    name = "images/training/ADE_train_00000001.jpg"
    assert (code, "9 files written" in out) == (0, True)
    assert (tmp_path / "set" / name).samefile(tmp_path / "unpacked" / "ADEChallengeData2016" / name)
    assert not (tmp_path / "set" / "other.bin").exists()
    code, out, _ = run(capsys, "ade20k", "--from", tmp_path / "set", "--to", tmp_path / "set")
    assert (code, "0 files written, 9 were there" in out) == (0, True)


def test_a_half_unpacked_folder_is_named(capsys, downloads, tmp_path):
    with zipfile.ZipFile(downloads / "ADEChallengeData2016.zip") as archive:
        archive.extractall(tmp_path / "unpacked")
    shutil.rmtree(tmp_path / "unpacked" / "ADEChallengeData2016" / "annotations" / "validation")
    code, _, err = run(capsys, "ade20k", "--from", tmp_path / "unpacked", "--to", tmp_path / "set")
    assert (code, (tmp_path / "set").exists()) == (2, False)
    assert "annotations/validation (missing): want images/{training,validation}/*.jpg beside annotations/" in err


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("../escaped.jpg", 0, "a name that leads out of its folder"),
        ("/absolute.jpg", 0, "a name that leads out of its folder"),
        ("C:evil.jpg", 0, "a name that leads out of its folder"),
        ("a\\..\\evil.jpg", 0, "a name that leads out of its folder"),
        ("ADEChallengeData2016/images/training/link.jpg", stat.S_IFLNK | 0o777, "a link or device"),
    ],
)
def test_an_archive_that_would_write_elsewhere_is_refused_whole(
    capsys, downloads, members, tmp_path, name, mode, reason
):
    with zipfile.ZipFile(downloads / "ADEChallengeData2016.zip", "a") as archive:
        info = zipfile.ZipInfo("placeholder")
        info.filename, info.external_attr = name, mode << 16
        archive.writestr(info, b"/etc/passwd")
    code, _, err = run(capsys, "ade20k", "--from", downloads, "--to", tmp_path / "set")
    assert (code, (tmp_path / "set").exists()) == (2, False)
    assert f"got {reason} in " in err


def test_a_half_downloaded_archive_is_named_with_its_size(capsys, downloads, tmp_path):
    archive = downloads / "ADEChallengeData2016.zip"
    archive.write_bytes(archive.read_bytes()[:-300])
    code, _, err = run(capsys, "ade20k", "--from", downloads, "--to", tmp_path / "set")
    assert code == 2
    assert f"got damaged archive {archive} ({archive.stat().st_size:,} bytes" in err
    assert "want ADEChallengeData2016.zip, ADE20K scene parsing, 150 classes, 0.9 GB" in err


def test_a_damaged_member_is_named_and_leaves_no_file(capsys, downloads, members, tmp_path):
    archive = downloads / "ADEChallengeData2016.zip"
    name = "ADEChallengeData2016/annotations/validation/ADE_val_00000002.png"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as file:
        for member, data in members.items():
            file.writestr(member, data)
    whole = archive.read_bytes()
    place = whole.index(name.encode()) + len(name) + 40
    archive.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    code, _, err = run(capsys, "ade20k", "--from", downloads, "--to", tmp_path / "set")
    assert (code, f"got damaged {name} in {archive} (Bad CRC-32" in err) == (2, True)
    left = [path.name for path in (tmp_path / "set").rglob("*") if path.is_file()]
    assert "ADE_val_00000002.png" not in left
    assert [name for name in left if ".partial" in name] == []


def test_another_archive_is_told_apart(capsys, tmp_path):
    zipped(tmp_path / "ADEChallengeData2016.zip", {"ADE20K_2016_07_26/images/training/a/abbey/x.jpg": b"x"})
    code, _, err = run(capsys, "ade20k", "--from", tmp_path, "--to", tmp_path / "set")
    assert (code, "got no file of the set in" in err) == (2, True)


def test_a_missing_download_says_what_to_fetch_and_where(capsys, tmp_path):
    for task, name in (("ade20k", "ADEChallengeData2016.zip"), ("nyu", "nyu_depth_v2_labeled.mat")):
        code, _, err = run(capsys, task, "--from", tmp_path, "--to", tmp_path / "set")
        assert code == 2
        assert f"got no {name} in {tmp_path}: want {name}, " in err
        assert "http" in err
    assert "(no folder)" in run(capsys, "nyu", "--from", tmp_path / "no", "--to", tmp_path / "set")[2]


def test_the_labelled_file_becomes_the_lists_and_files_of_bts(capsys, labelled, tmp_path):
    folder = tmp_path / "nyu"
    code, out, err = run(capsys, "nyu", "--from", labelled, "--to", folder)
    assert (code, err) == (0, "")
    assert (folder / "nyudepthv2_test_files_with_gt.txt").read_text() == (
        "/den/rgb_00001.jpg /den/sync_depth_00001.png 518.8579\n"
        "/living_room/rgb_00002.jpg /living_room/sync_depth_00002.png 518.8579\n"
    )
    assert "the labelled part alone" in out
    assert out.splitlines()[-1].endswith(f"nyu --data nyu={folder}")
    for split, rows in (("val", TEST_ROWS), ("train", [3, 0, 4])):
        dataset = open_named("nyu", root=folder, split=split, needs="depth")
        assert len(dataset) == len(rows)
        for index, row in enumerate(rows):
            np.testing.assert_array_equal(dataset.depth(index), metres(row))
            assert np.abs(dataset.image(index).astype(int) - picture(row)).mean() < 3


def test_prepared_files_and_the_mat_file_itself_give_the_same_depth(capsys, labelled, tmp_path):
    run(capsys, "nyu", "--from", labelled, "--to", tmp_path / "nyu")
    mat, lists = (open_set("nyu", root=root, split="test") for root in (labelled, tmp_path / "nyu"))
    for index in range(2):
        np.testing.assert_array_equal(mat.depth(index), lists.depth(index))


def test_a_second_run_finds_everything_in_place(capsys, labelled, tmp_path):
    for task, files in (("nyu", 12), ("nyu40", 15)):
        run(capsys, task, "--from", labelled, "--to", tmp_path / task)
        before = snapshot(tmp_path / task)
        code, out, _ = run(capsys, task, "--from", labelled, "--to", tmp_path / task)
        assert (code, f"0 files written, {files} were there" in out) == (0, True)
        assert snapshot(tmp_path / task) == before


def test_the_frames_border_is_made_black_as_in_bts():
    frame = np.full((480, 640, 3), 255, dtype=np.uint8)
    black = nyu.framed(frame)
    assert (black[:7].max(), black[474:].max(), black[:, :7].max(), black[:, 632:].max()) == (0, 0, 0, 0)
    assert black[7:474, 7:632].min() == 255
    assert nyu.framed(frame[:100]) is not None
    np.testing.assert_array_equal(nyu.framed(frame[:100]), frame[:100])


def test_metres_become_whole_millimetres_that_fit_sixteen_bits():
    depth = np.array([[0, 0.0019, 1.5, 9.9996, 70]], dtype=np.float32)
    assert nyu.millimetres(depth).tolist() == [[0, 1, 1500, 9999, 65535]]
    assert nyu.millimetres(depth).dtype == np.uint16


@pytest.fixture
def frames():
    """Synchronised frames of one scene by their names in sync.zip; one image has no depth."""
    found = {}
    for number in (3, 1, 2):
        found[f"sync/den_0001/rgb_{number:05d}.jpg"] = as_bytes(picture(number), "JPEG")
        found[f"sync/den_0001/sync_depth_{number:05d}.png"] = as_bytes((metres(number) * 1000).astype(np.uint16), "PNG")
    del found["sync/den_0001/sync_depth_00002.png"]
    return found


@pytest.mark.parametrize("packed", [True, False])
def test_synchronised_frames_become_the_training_list(capsys, labelled, frames, tmp_path, packed):
    zipped(labelled / "sync.zip", frames)
    if not packed:
        with zipfile.ZipFile(labelled / "sync.zip") as archive:
            archive.extractall(labelled)
        (labelled / "sync.zip").unlink()
    code, out, err = run(capsys, "nyu", "--from", labelled, "--to", tmp_path / "nyu")
    assert (code, err) == (0, "")
    assert "1 images without depth are left out: den_0001/rgb_00002.jpg" in out
    assert "nyudepthv2_train_files_with_gt.txt: all 2 pairs; published numbers train on those of BTS" in out
    dataset = open_named("nyu", root=tmp_path / "nyu")
    assert [dataset.key(index) for index in range(2)] == [f"sync/den_0001/rgb_0000{n}.jpg" for n in (1, 3)]
    np.testing.assert_array_equal(dataset.depth(1), metres(3))
    assert dataset._images[0].read_bytes() == frames["sync/den_0001/rgb_00001.jpg"]


def test_the_published_list_is_taken_where_it_is_among_the_downloads(capsys, labelled, frames, tmp_path):
    zipped(labelled / "sync.zip", frames)
    line = "/den_0001/rgb_00003.jpg /den_0001/sync_depth_00003.png 518.8579\n"
    (labelled / "nyudepthv2_train_files_with_gt.txt").write_text(line)
    run(capsys, "nyu", "--from", labelled, "--to", tmp_path / "nyu")
    assert (tmp_path / "nyu" / "nyudepthv2_train_files_with_gt.txt").read_text() == line
    assert len(open_named("nyu", root=tmp_path / "nyu")) == 1


def test_the_labelled_part_becomes_ade20ks_layout_with_forty_classes(capsys, labelled, tmp_path):
    folder = tmp_path / "nyuv2"
    code, out, err = run(capsys, "nyu40", "--from", labelled, "--to", folder)
    assert (code, err) == (0, "")
    assert out.splitlines()[-1].endswith(f"segmentation@nyuv2 depth@nyuv2 --data nyuv2={folder}")
    for split, rows in (("train", TRAIN_ROWS), ("val", TEST_ROWS)):
        dataset = open_named("nyuv2", root=folder, split=split, needs="pixel classes")
        assert (len(dataset), len(dataset.segments)) == (len(rows), 39)
        for index, row in enumerate(rows):
            raw = labels(row).astype(int)
            np.testing.assert_array_equal(dataset.image(index), picture(row))
            np.testing.assert_array_equal(dataset.depth(index), metres(row))
            np.testing.assert_array_equal(dataset.mask(index), np.where((raw > 0) & (raw < 40), raw - 1, 255))
    assert [path.name for path in sorted((folder / "images" / "validation").iterdir())] == ["0002.png", "0003.png"]


def test_what_the_labelled_part_lacks_is_named(capsys, labelled, tmp_path):
    (labelled / "classMapping40.mat").unlink()
    assert "got no classMapping40.mat in" in run(capsys, "nyu40", "--from", labelled, "--to", tmp_path / "set")[2]
    (labelled / "splits.mat").unlink()
    assert "got no splits.mat in" in run(capsys, "nyu", "--from", labelled, "--to", tmp_path / "set")[2]
    mat = labelled / "nyu_depth_v2_labeled.mat"
    mat.write_bytes(mat.read_bytes()[:2000])
    savemat(labelled / "splits.mat", {"trainNdxs": np.array([[1]]), "testNdxs": np.array([[2]])})
    code, _, err = run(capsys, "nyu", "--from", labelled, "--to", tmp_path / "set")
    assert (code, "2,972,037,809 bytes as published (it has 2,000); fetch it again" in err) == (2, True)


def test_a_check_refuses_a_part_of_a_published_set(capsys, downloads, tmp_path):
    folder = tmp_path / "set"
    run(capsys, "ade20k", "--from", downloads, "--to", folder)
    code, out, err = run(capsys, "--check", "ade20k", folder)
    assert code == 2
    assert "ade20k/val: 2 images, all readable, 150 of 150 pixel classes" in out
    assert (
        f"got a part of 'ade20k' in {folder} (train: 2 of the 20,210 images that are published: ADE_train_00000003"
        in err
    )


def test_a_check_names_broken_files_of_both_splits(capsys, downloads, tmp_path):
    folder = tmp_path / "set"
    run(capsys, "ade20k", "--from", downloads, "--to", folder)
    for name in ("training/ADE_train_00000001", "validation/ADE_val_00000002"):
        (folder / "images" / f"{name}.jpg").write_bytes(b"")
    code, _, err = run(capsys, "--check", "ade20k", folder)
    assert code == 2
    train, val = err.splitlines()
    assert "ADE_train_00000001.jpg (empty)" in train
    assert "ADE_val_00000002.jpg (empty)" in val


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["coco"], "got task 'coco': want one of ade20k, nyu, nyu40; correct the task"),
        (["ade20k", "--from", "x"], "got no --to: want ade20k --from DOWNLOADS --to FOLDER"),
        (["ade20k", "--to", "x"], "got no --from: want ade20k --from DOWNLOADS --to FOLDER"),
        (["ade20k", "nyu"], "unrecognized arguments: nyu; --help shows the usage"),
        (["--check", "ade20k"], "argument --check: expected 2 arguments; --help shows the usage"),
        (["--check", "coco", "x"], "got data set 'coco' to check: want one of ade20k, nyu"),
        (["--check", "ade20k", "nowhere"], "got root nowhere (missing): want images/{training,validation}/*.jpg"),
        (["--form", "x"], "unrecognized arguments: --form; did you mean '--from'?"),
    ],
)
def test_wrong_words_are_answered_in_one_line(capsys, words, message):
    code, _, err = run(capsys, *words)
    assert (code, message in err, err.count("\n")) == (2, True, 0)


def test_too_little_room_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(BadInput, match=r"got .* GB free for .*set: want about 1000000000\.0 GB; free some, or choose"):
        Target(tmp_path / "set").need_room(10**18)
    assert not (tmp_path / "set").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "set").touch()
    with pytest.raises(BadInput, match=r"got --to .*set \(a file\): want a folder"):
        Target(tmp_path / "set")


def test_a_write_that_fails_leaves_nothing(tmp_path):
    def fill(file):
        file.write(b"half")
        raise KeyboardInterrupt

    target = Target(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        target.put("a/b.png", fill, right=lambda path: True)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    assert (target.written, target.kept) == (0, 0)


def test_the_same_picture_by_another_compressor_is_kept_and_another_one_is_not(tmp_path):
    target = Target(tmp_path)
    Image.fromarray(picture(1)).save(tmp_path / "a.png", compress_level=0)
    Image.fromarray(picture(1)).save(tmp_path / "a.jpg", quality=95, optimize=True)
    Image.fromarray(picture(2)).save(tmp_path / "b.png")
    for name in ("a.png", "a.jpg", "b.png"):
        target.put_picture(name, picture(1))
    assert (target.written, target.kept, target.differing) == (0, 2, ["b.png"])
    with pytest.raises(BadInput, match=r"got 1 files of other content in .* \(b\.png\)"):
        target.finish()


def test_camvid_of_gramlab_data_passes_the_check(capsys):
    if "GRAMLAB_DATA" not in os.environ:
        pytest.skip("GRAMLAB_DATA is not set")
    code, out, err = run(capsys, "--check", "camvid", Path(os.environ["GRAMLAB_DATA"]) / "camvid")
    assert (code, err) == (0, "")
    assert out.startswith("camvid/train: 367 images, all readable, 11 of 11 pixel classes")
