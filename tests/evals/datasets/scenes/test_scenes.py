import hashlib
import os
import pickle
import re
import subprocess
import sys

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from common.errors import BadInput
from common.unwritable import Unwritable
from evals.datasets.scenes import scenes
from evals.datasets.scenes.scenes import Scenes

GOLDEN = {  # (seed, split, index, size): of image, mask and depth; new values need a new scenes.VERSION
    (0, "train", 0, 64): "d51decc596c3581e11ef3fb425279ba87bc782b2317849c28a41a4fea72da7a8",
    (0, "train", 1, 64): "72f31cc69a35cadf06192b83ce974127b15a29b705e2716be6c67d7674cf0b40",
    (0, "val", 2, 128): "737b9f70e70598052987f372cab4f199b00191ee65d47506b57d4e94030d8851",
    (7, "test", 123456, 96): "640a3d38f8be7992fcb0b07345ac22ad82e8e65a6a398bbe786b9eb0e3b84cae",
    (0, "train", 3, 33): "1659a27ece6e29c4f16bce1134586ad0b664a2c45543089e7c7aaac9f5d5d46b",
}


def digest(dataset, index):
    total = hashlib.sha256()
    for part in (dataset.image(index), dataset.mask(index), dataset.depth(index)):
        total.update(np.ascontiguousarray(part).tobytes())
    return total.hexdigest()


def digests(cases):
    return {case: digest(Scenes(case[1], seed=case[0], size=case[3], count=10**7), case[2]) for case in cases}


def environment(**extra):
    """For a process of its own that finds our packages as this one does."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **extra}


def read(cache):
    dataset = Scenes(size=16, count=40, cache=cache)
    return [digest(dataset, index) for index in range(40)]


def features(dataset, kind):
    return np.stack([kind(dataset.image(index)) for index in range(len(dataset))])


def colour_histogram(image):
    codes = (image.reshape(-1, 3) // 64) @ np.array([16, 4, 1])
    return np.bincount(codes, minlength=64) / len(codes)


def gradient_histogram(image):
    down, across = np.gradient(image.mean(-1))
    size, strength = len(image), np.hypot(down, across)
    bins = (np.arctan2(down, across) % np.pi / np.pi * 8).astype(int) % 8
    cells = np.stack([strength * (bins == number) for number in range(8)], -1)
    cells = cells.reshape(8, size // 8, 8, size // 8, 8).sum((1, 3))
    return (cells / (np.linalg.norm(cells, axis=-1, keepdims=True) + 20)).ravel()


@pytest.fixture(scope="module")
def pair():
    return Scenes("train", count=600), Scenes("val", count=300)


def knn(pair, kind):
    train, test = pair
    labels, truths = ([part.label(index) for index in range(len(part))] for part in pair)
    left, right = features(train, kind), features(test, kind)
    spread = left.std(0) + 1e-9
    return KNeighborsClassifier(15).fit(left / spread, labels).score(right / spread, truths)


def test_scenes_are_the_very_same_bytes_as_when_they_were_made():
    assert digests(GOLDEN) == GOLDEN


def test_scenes_do_not_depend_on_the_processor_or_the_process():
    from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

    extras = " ".join(name for name in __cpu_dispatch__ if __cpu_features__.get(name))
    code = "import pickle, sys; from evals.datasets.scenes.scenes import Scenes; s = Scenes(count=9, size=40); "
    code += "sys.stdout.buffer.write(pickle.dumps("
    code += "[(s.image(i), s.mask(i), s.depth(i), *s.surfaces(i)) for i in (8, 0, 5)]))"
    plain = environment(NPY_DISABLE_CPU_FEATURES=extras)
    output = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, check=True).stdout
    here = Scenes(count=9, size=40)
    for index, parts in zip((8, 0, 5), pickle.loads(output), strict=True):
        for other, mine in zip(
            parts, (here.image(index), here.mask(index), here.depth(index), *here.surfaces(index)), strict=True
        ):
            np.testing.assert_array_equal(other, mine)


def test_order_of_access_and_number_of_scenes_change_nothing():
    forwards, backwards = Scenes(count=12, size=24), Scenes(count=50, size=24)
    there = [digest(forwards, index) for index in range(12)]
    back = [digest(backwards, index) for index in reversed(range(12))]
    assert there == back[::-1]


def test_images_masks_and_depth_have_their_sizes_types_and_ranges():
    dataset = Scenes(size=40, count=8)
    for index in range(8):
        image, mask, depth = dataset.image(index), dataset.mask(index), dataset.depth(index)
        assert (image.shape, image.dtype) == ((40, 40, 3), np.uint8)
        assert (mask.shape, mask.dtype) == ((40, 40), np.uint8)
        assert (depth.shape, depth.dtype) == ((40, 40), np.float32)
        assert mask.max() < len(dataset.segments)
        assert {type(part) for part in (image, mask, depth)} == {np.ndarray}
        name = dataset.classes[dataset.label(index)]
        assert (mask == dataset.segments.index(name)).mean() > 0.03


def test_classes_are_balanced():
    dataset = Scenes("val", count=600)
    assert np.bincount([dataset.label(index) for index in range(600)]).tolist() == [100] * 6


def test_the_large_object_fills_a_third_to_three_quarters_of_the_height():
    dataset = Scenes(count=120)
    shares = [(dataset.mask(index) >= 5).any(1).mean() for index in range(120)]
    assert np.quantile(shares, 0.02) > 0.35
    assert np.quantile(shares, 0.98) < 0.78


def test_colour_does_not_give_the_class_away(pair):
    assert knn(pair, lambda image: image.mean((0, 1))) < 1.5 / 6
    assert knn(pair, colour_histogram) < 1.5 / 6


def test_outlines_and_textures_do_give_the_class_away(pair):
    assert knn(pair, gradient_histogram) > 0.7


def test_every_segment_is_seen_often_enough_to_be_learned(pair):
    counts = np.sum([np.bincount(pair[1].mask(index).ravel(), minlength=11) for index in range(120)], axis=0)
    assert (counts / counts.sum()).min() > 0.01


def test_a_changed_picture_changes_no_later_reading(tmp_path):
    for dataset in (Scenes(size=16, count=3), Scenes(size=16, count=3, cache=tmp_path)):
        before = dataset.image(1).copy()
        dataset.image(1)[:] = 0
        np.testing.assert_array_equal(dataset.image(1), before)


def test_the_cache_holds_what_would_be_rendered_and_is_written_once(tmp_path):
    assert read(tmp_path) == read(None)
    files = {path: path.stat().st_ino for path in tmp_path.glob("*.npy")}
    assert len(files) == 2
    assert read(tmp_path) == read(None)
    assert files == {path: path.stat().st_ino for path in tmp_path.glob("*.npy")}


def test_a_set_that_is_only_looked_at_renders_no_masks(tmp_path):
    Scenes(size=16, count=4, cache=tmp_path).image(0)
    assert [path.name.rsplit("-")[-1] for path in tmp_path.glob("*.npy")] == ["image.npy"]


@pytest.mark.parametrize("filled", [False, True])
def test_a_damaged_cache_is_rendered_again(tmp_path, filled):
    """`filled` keeps the length, with zeros in place of what is lost."""
    fresh = read(tmp_path)
    for path in tmp_path.glob("*.npy"):
        whole = path.read_bytes()
        left = whole[: len(whole) // 2]
        path.write_bytes(left.ljust(len(whole), b"\0") if filled else left)
    assert read(tmp_path) == fresh


def test_processes_that_share_a_cache_do_not_disturb_each_other(tmp_path):
    code = "import sys; from evals.datasets.scenes.scenes import Scenes; "
    code += "s = Scenes(size=16, count=40, cache=sys.argv[1]); "
    code += "print([s.image(i).tobytes().hex() + s.depth(i).tobytes().hex() for i in range(40)])"
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = {process.communicate(timeout=60)[0].strip() for process in running}
    plain = Scenes(size=16, count=40)
    expected = [plain.image(index).tobytes().hex() + plain.depth(index).tobytes().hex() for index in range(40)]
    assert outputs == {str(expected)}
    assert len(list(tmp_path.glob("*.npy"))) == 2
    assert not list(tmp_path.glob("*.partial*"))


def test_an_interrupted_rendering_leaves_nothing_behind(tmp_path):
    def render(index):
        if index:
            raise KeyboardInterrupt
        return np.zeros((), dtype="u1")

    with pytest.raises(KeyboardInterrupt):
        scenes._fill(tmp_path / "part.npy", np.dtype("u1"), 5, title="", render=render)
    assert list(tmp_path.iterdir()) == []


def test_a_set_travels_to_workers_without_its_pictures(tmp_path):
    dataset = Scenes(size=32, count=20, cache=tmp_path)
    dataset.image(3)
    parcel = pickle.dumps(dataset)
    assert len(parcel) < 2000
    np.testing.assert_array_equal(pickle.loads(parcel).image(3), dataset.image(3))


def test_the_store_in_memory_stays_within_its_bounds(monkeypatch):
    monkeypatch.setattr(scenes, "MEMORY_BYTES", 5 * 16 * 16 * 3)
    dataset = Scenes(size=16, count=30)
    for index in range(30):
        dataset.image(index)
    assert len(dataset._recent) == 5
    assert dataset._bytes == 5 * 16 * 16 * 3


def test_fingerprint_changes_with_every_setting_and_not_with_the_name():
    base = Scenes(size=16, count=4).fingerprint()
    others = [
        Scenes(size=17, count=4),
        Scenes(size=16, count=5),
        Scenes(size=16, count=4, seed=1),
        Scenes("val", size=16, count=4),
    ]
    assert len({base, *(other.fingerprint() for other in others)}) == 5
    assert Scenes(size=16, count=4, name="other").fingerprint() == base


def test_keys_are_unique_and_an_index_outside_is_refused():
    dataset = Scenes("test", count=30)
    assert dataset.key(7) == "test/000007"
    assert len({dataset.key(index) for index in range(30)}) == 30
    for wrong in (-1, 30):
        with pytest.raises(IndexError, match=r"of 30"):
            dataset.image(wrong)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"split": "tran"}, "got split 'tran' for scenes: want one of train, val, test"),
        ({"size": 4}, "got size 4 for scenes: want 8 to 1024 pixels"),
        ({"count": 0}, "got count 0 for scenes: want at least 1"),
    ],
)
def test_impossible_settings_are_refused(given, message):
    with pytest.raises(BadInput, match=message):
        Scenes(**given)


def test_a_cache_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"got cache folder .*file.* want a folder that can be written"):
        Scenes(size=16, count=2, cache=tmp_path / "file").image(0)
    assert (tmp_path / "file").read_text() == ""


def test_a_cache_on_a_full_disk_is_told_as_such(tmp_path, files_at_most):
    with files_at_most(1000), pytest.raises(Unwritable) as error:
        Scenes(size=16, count=4, cache=tmp_path).image(0)
    assert re.match(rf"cannot write {tmp_path}/scenes-\w+-image.npy \(File too large\): ", str(error.value))
    assert str(error.value).endswith(", or name another cache (runtime.cache=... of a run, else --cache)")
    assert [path.suffix for path in tmp_path.glob("scenes*")] == [".lock"]
    assert Scenes(size=16, count=4, cache=tmp_path).image(0).shape == (16, 16, 3)
