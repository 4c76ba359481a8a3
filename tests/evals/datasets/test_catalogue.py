import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.catalogue import KINDS, KNOWN, Kind, kind_of, open_named, open_set


def test_a_set_is_what_it_was_asked_to_be_or_what_its_kind_is_by_default():
    dataset = open_set("scenes", split="val", size=16, count=5, seed=3, name="rooms")
    assert (dataset.name, dataset.split, len(dataset), dataset.image(0).shape) == ("rooms", "val", 5, (16, 16, 3))
    assert open_set("scenes").name == "scenes"
    assert len(open_set("scenes")) == 1000


@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        ("scene", {}, f"got data set kind 'scene': want one of {', '.join(KINDS)}; did you mean 'scenes'?"),
        ("cifar", {}, f"got data set kind 'cifar': want one of {', '.join(KINDS)}; correct it"),
        ("scenes", {"sizes": 3}, "got setting 'sizes' for a data set: want root, split, .*; did you mean 'size'?"),
        ("scenes", {"root": "x"}, "got root for a set of kind 'scenes': want none"),
        ("scenes", {"classes": ["ball"]}, "got classes for a set of kind 'scenes': want none"),
        ("folder", {}, "got no root for a set of kind 'folder': want its folder; set root"),
        (
            "nyu",
            {"root": "x", "size": 64},
            "got size for a set of kind 'nyu': want none, its images are read from files",
        ),
        ("ade20k", {"root": "x", "seed": 1}, "got seed for a set of kind 'ade20k': want none"),
        ("folder", {"root": "x", "count": 0}, "got count 0 for a set of kind 'folder': want at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(kind, given, message):
    with pytest.raises(BadInput, match=message.replace("?", r"\?")) as caught:
        open_set(kind, **given)
    assert "\n" not in str(caught.value)


def test_a_kind_that_joins_the_table_is_opened_and_known_to_the_settings(monkeypatch):
    from evals.datasets.settings import Set, open_one

    given = []
    monkeypatch.setitem(KINDS, "toy", Kind(lambda **arguments: given.append(arguments)))
    open_one("mine", Set(kind="toy", root="~/x", split="val", classes=["a"]), cache=Path("cache"))
    assert given == [{"split": "val", "name": "mine", "root": Path("~/x").expanduser(), "classes": ["a"]}]
    monkeypatch.setitem(KINDS, "toy", Kind(lambda **arguments: given.append(arguments), rendered=True))
    open_one("mine", Set(kind="toy", size=8, count=3), cache=Path("cache"))
    assert given[1] == {"split": "train", "name": "mine", "count": 3, "size": 8, "cache": Path("cache")}


def test_opening_a_set_imports_nothing_heavy():
    code = "import sys; from evals.datasets.catalogue import open_set; open_set('scenes', count=1).image(0); "
    code += "print(sorted({'torch', 'mmseg', 'h5py', 'matplotlib', 'PIL'} & set(sys.modules)))"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    output = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.strip() == "[]"


def put(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def put_layout(root, *parts, split="training"):
    pixels = {"images": np.zeros((2, 2, 3)), "annotations": np.ones((2, 2)), "depth": np.full((2, 2), 900)}
    for part in parts:
        dtype = np.uint16 if part == "depth" else np.uint8
        put(root / part / split / "a.png", pixels[part].astype(dtype))


def test_a_known_set_is_found_below_the_folder_of_gramlab_data(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAMLAB_DATA", str(tmp_path))
    put_layout(tmp_path / "ADEChallengeData2016", "images", "annotations")
    dataset = open_named("ade20k", needs="pixel classes")
    assert (dataset.name, dataset.split, len(dataset), len(dataset.segments)) == ("ade20k", "train", 1, 150)


def test_a_part_of_a_published_set_is_told_once_for_each_split(tmp_path, caplog):
    put_layout(tmp_path, "images", "annotations")
    put_layout(tmp_path, "images", "annotations", split="validation")
    for split, size in (("train", "20,210"), ("val", "2,000")):
        open_named("ade20k", root=tmp_path, split=split)
        (line,) = caplog.messages
        assert line.startswith(f"ade20k/{split} in {tmp_path}: 1 of the {size} images that are published; ")
        assert line.endswith(f"prepare.py --check ade20k {tmp_path} tells more")
        caplog.clear()
    open_named("ade20k", root=tmp_path, quiet=True)
    open_named("ade20k", root=tmp_path, count=1)  # a part was asked for
    open_named("mine", root=tmp_path, classes=["a", "b"])
    assert caplog.messages == []


def test_the_warning_is_a_line_on_stderr_where_nobody_set_up_logging(tmp_path):
    put_layout(tmp_path, "images", "annotations")
    code = "from evals.datasets.catalogue import open_named; "
    code += f"open_named('ade20k', root={str(tmp_path)!r}, classes=['a', 'b'])"  # ADE20K's names take seconds to import
    place = Path(__file__).parents[3]
    told = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    assert told.stderr.startswith("ade20k/train")
    assert told.stderr.count("\n") == 1


def test_a_folder_that_is_given_goes_before_the_usual_one(tmp_path, monkeypatch):
    monkeypatch.setenv("GRAMLAB_DATA", str(tmp_path / "nowhere"))
    put_layout(tmp_path / "mine", "images", "annotations", split="test")
    dataset = open_named("camvid", root=tmp_path / "mine", split="val", classes=["a", "b"])
    assert (dataset.name, dataset.split, dataset.segments) == ("camvid", "test", ("a", "b"))
    assert open_named("camvid", root=tmp_path / "mine", split="val").segments[0] == "sky"


def test_a_set_without_a_folder_says_how_to_give_one(tmp_path, monkeypatch):
    monkeypatch.delenv("GRAMLAB_DATA", raising=False)
    want = (
        "want --data ade20k=FOLDER, or ADEChallengeData2016 below the folder that the environment variable GRAMLAB_DATA"
    )
    with pytest.raises(BadInput, match=rf"got no folder for data set 'ade20k' \(GRAMLAB_DATA is not set\): {want}"):
        open_named("ade20k")
    monkeypatch.setenv("GRAMLAB_DATA", str(tmp_path))
    with pytest.raises(BadInput, match=r"\(.*ADEChallengeData2016 is missing\)"):
        open_named("ade20k")
    with pytest.raises(BadInput, match=r"got no folder for data set 'ade'.*known are ade20k, nyu, nyuv2, camvid, "):
        open_named("ade")


@pytest.mark.parametrize(
    ("parts", "needs", "kind"),
    [
        (["images", "annotations", "depth"], "pixel classes", "nyu"),
        (["images", "annotations"], "pixel classes", "ade20k"),
        (["images", "annotations"], "images", "ade20k"),
        (["images", "depth"], "images", "nyu"),
        (["images", "depth"], "pixel classes", "nyu"),
        (["images", "depth"], "depth", "nyu"),
        (["images", "annotations"], "image classes", "folder"),
        (["images"], "images", "folder"),
        (["images"], "pixel classes", "ade20k"),
        ([], "image classes", "folder"),
        ([], "images", "folder"),
    ],
)
def test_the_kind_of_an_unknown_set_follows_from_folder_and_need(tmp_path, parts, needs, kind):
    put_layout(tmp_path, *parts)
    assert kind_of(tmp_path, needs) == kind


def test_an_unknown_set_of_lists_is_read_as_nyu(tmp_path):
    (tmp_path / "nyudepthv2_test_files_with_gt.txt").touch()
    assert kind_of(tmp_path, "images") == kind_of(tmp_path / "some.mat", "images") == "nyu"


def test_segmentation_works_on_a_set_with_depth_where_it_has_masks(tmp_path):
    put_layout(tmp_path / "both", "images", "annotations", "depth")
    put_layout(tmp_path / "deep", "images", "depth")
    assert len(open_named("nyu", root=tmp_path / "both", needs="pixel classes").segments) == 39
    with pytest.raises(BadInput, match=r"got data set 'nyu' in .* without pixel classes: want"):
        open_named("nyu", root=tmp_path / "deep", needs="pixel classes")
    with pytest.raises(BadInput, match=r"without image classes: want"):
        open_named("nyu", root=tmp_path / "both", needs="image classes")
    put_layout(tmp_path / "flat", "images", "annotations")
    with pytest.raises(BadInput, match=r"without depth: want"):
        open_named("ade20k", root=tmp_path / "flat", needs="depth")
    for needs in ("surface normals", "parts"):
        said = (
            rf"without {needs}: want a set with {needs}, which rendered rooms alone have \(kind: scenes\); name another"
        )
        with pytest.raises(BadInput, match=said):
            open_named("nyu", root=tmp_path / "deep", needs=needs)


def test_the_known_sets_of_gramlab_data_have_their_published_sizes():
    if "GRAMLAB_DATA" not in os.environ:
        pytest.skip("GRAMLAB_DATA is not set")
    for name in ("nyuv2", "camvid", "imagenette"):
        for split in ("train", "val"):
            dataset = open_named(name, split=split)
            assert len(dataset) in KNOWN[name].published[dataset.split]
