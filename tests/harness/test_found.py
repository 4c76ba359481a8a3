"""What was found is told: sources, sets and protocols in the plan, and what cannot be read before a run."""

import re

import numpy as np
import pytest
from PIL import Image

from common.errors import BadInput
from evals.datasets.settings import Set
from harness.check_data import check_data
from harness.data.pool import Pools
from harness.data_settings import Data
from harness.eval_settings import EvaluationTask
from harness.evaluate import open_tasks
from harness.found import found_lines
from harness.graph import jobs


@pytest.fixture
def photos(tmp_path):
    """Two classes of three pictures, a note, a dangling link."""
    for number in range(6):
        path = tmp_path / "photos" / "train" / ("cat", "dog")[number // 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 16, 3), number, np.uint8)).save(path)
    (tmp_path / "photos" / "train" / "cat" / "notes.txt").touch()
    (tmp_path / "photos" / "train" / "dog" / "gone.jpg").symlink_to("nowhere")
    return tmp_path / "photos"


@pytest.fixture
def told(tiny, change, photos, tmp_path):
    """The lines of an experiment on the photos, with changes."""

    def of(values=None):
        sources = {"photos": Set(kind="folder", root=str(photos)), "rooms": Set(size=32, count=5)}
        given = {"data.sources": sources, "runtime.folder": str(tmp_path / "runs"), "arms": {"plain": {}}}
        experiment = change(tiny, {**given, **(values or {})})
        pools = Pools()
        todo = jobs(experiment, fingerprint=lambda data: "photos")
        return found_lines(tmp_path / "runs" / "tiny", todo, pools, open_tasks(experiment))

    return of


def test_every_source_says_what_it_holds_and_what_was_passed_over(told, tmp_path):
    folder, model, photos, rooms = told()
    assert model == "model vit_small_patch16_dinov3_qkvb: 0.032 M weights, 2 blocks of width 32, patches of 8 px"
    assert folder == f"run folder: {tmp_path / 'runs' / 'tiny'}"
    assert photos.startswith("training source photos/train: 6 images, 2 classes, 2 components; skipped 2: ")
    assert "1 no picture by its suffix (train/cat/notes.txt)" in photos
    assert "1 dangling link (train/dog/gone.jpg)" in photos
    assert rooms == "training source rooms/train: 5 images, 6 classes, 11 pixel classes, depth, surfaces, 5 components"


def test_sets_and_protocols_of_the_evaluations_are_told(told, photos):
    sets = {"a": Set(size=32, count=24, split="val"), "b": Set(size=32, count=8, split="test", name="rooms")}
    lines = told({"evals.sets": sets, "evals.tasks": {"near": EvaluationTask(protocol="knn", train="a", test="b")}})
    assert "evaluation set a/val: 24 images, 6 classes, 11 pixel classes, depth, surfaces" in lines
    assert "evaluation set rooms/test: 8 images, 6 classes, 11 pixel classes, depth, surfaces" in lines
    assert re.fullmatch(
        r"evaluation near: knn-quick-v1 #[0-9a-f]{8} at 32 px, fitted on a/val, judged on rooms/test", lines[-1]
    )


def test_arms_on_other_images_are_told_apart_and_one_component_is_said(told):
    sources = {"rooms": Set(size=32, count=5)}
    arms = {"plain": {}, "one": {"data.components": "source", "data.homogeneous_share": 0.5}}
    lines = told({"data.sources": sources, "arms": arms})
    assert [line.rpartition(", ")[2] for line in lines[2:4]] == ["5 components; arms plain", "1 component; arms one"]
    assert lines[4] == (
        "data.homogeneous_share=0.5: the pool is the one component rooms, so a homogeneous batch is a batch like any "
        "other; arms one"
    )


def test_reading_all_training_images_names_those_that_cannot_be_read(photos):
    (photos / "train" / "cat" / "1.png").write_bytes(b"no image")
    (photos / "train" / "dog" / "4.png").write_bytes(b"")
    data = Data(sources={"photos": Set(kind="folder", root=str(photos)), "rooms": Set(size=32, count=5)})
    with pytest.raises(BadInput) as error:
        check_data(data, Pools()(data))
    head, remedy, *faults = str(error.value).splitlines()
    assert head.startswith("got 2 of 6 training images that cannot be read: want whole images")
    assert remedy == '  "data.sources.photos.exclude=[train/cat/1.png,train/dog/4.png]"'
    assert [fault.partition(" (")[0] for fault in faults] == [
        f"  unreadable image {photos / 'train' / name}" for name in ("cat/1.png", "dog/4.png")
    ]
    left = Set(kind="folder", root=str(photos), exclude=["train/cat/1.png", "train/dog/4.png"])
    data = Data(sources={"photos": left})
    assert check_data(data, Pools()(data)) == "all 4 training images that lie in files can be read"


def test_reading_all_training_images_says_which_of_them_will_be_skipped(photos):
    (photos / "train" / "cat" / "1.png").write_bytes(b"no image")
    sources = {"photos": Set(kind="folder", root=str(photos))}
    data = Data(sources=sources, unreadable="skip", unreadable_share=0.2)
    assert check_data(data, Pools()(data)) == (
        "1 of 6 training images cannot be read and will be skipped (photos/train/cat/1.png)"
    )
    with pytest.raises(BadInput, match="got 1 of 6 training images that cannot be read: want whole images"):
        check_data(few := Data(sources=sources, unreadable="skip", unreadable_share=0.1), Pools()(few))


def test_reading_all_training_images_names_the_key_that_reads_large_ones_first(photos):
    for number in range(6, 40):  # so that those that are looked at are small
        Image.new("L", (8, 8)).save(photos / "train" / "dog" / f"{number}.png")
    Image.new("L", (1500, 1000)).save(photos / "train" / "cat" / "1.png")
    Image.new("L", (2500, 1000)).save(photos / "train" / "cat" / "2.png")
    data = Data(sources={"photos": Set(kind="folder", root=str(photos), max_megapixels=1.0)})
    with pytest.raises(BadInput) as error:
        check_data(data, Pools()(data))
    assert str(error.value).splitlines() == [
        "got 2 of 40 training images that cannot be read: want whole images; read the large ones by",
        '  "data.sources.photos.max_megapixels=3"',
        "or go on without them by",
        '  "data.sources.photos.exclude=[train/cat/1.png,train/cat/2.png]"',
        f"  image {photos / 'train/cat/1.png'} of 1500 x 1000 pixels, 2 million",
        f"  image {photos / 'train/cat/2.png'} of 2500 x 1000 pixels, 2 million",
    ]
    (photos / "train" / "dog" / "5.png").write_bytes(b"no image")
    with pytest.raises(BadInput) as error:
        check_data(data, Pools()(data))
    assert str(error.value).splitlines()[1:4] == [
        '  "data.sources.photos.max_megapixels=3"',
        "replace the others, or go on without them by",
        '  "data.sources.photos.exclude=[train/dog/5.png]"',
    ]
    data = Data(
        sources={"photos": Set(kind="folder", root=str(photos), max_megapixels=3.0, exclude=["train/dog/5.png"])}
    )
    assert check_data(data, Pools()(data)) == "all 39 training images that lie in files can be read"


def test_components_that_are_named_are_told_and_unknown_ones_refused(told):
    named = {"data.homogeneous_share": 0.1, "data.homogeneous": {"photos/cat": 2.0, "photos": 1.0}}
    assert "batches: 0.1 of them from one of: photos/cat 0.667, photos 0.333" in told(named)
    told_both = told({**named, "data.mixed": {"rooms": 2.0}})
    assert "batches: 0.1 of them from one of: photos/cat 0.667, photos 0.333; the others from rooms 1" in told_both
    assert "batches: mixed ones from rooms 1" in told({"data.mixed": {"rooms": 2.0}})
    classes = "batches: 0.1 of them from one of: photos/cat 0."
    assert any(line.startswith(classes) for line in told({"data.homogeneous_share": 0.1}))
    assert not any(line.startswith("batches") for line in told({}))
    repeating = "batches of one component repeat images where it has fewer than 4: photos/cat 3, photos/dog 3, rooms/"
    assert any(line.startswith(repeating) for line in told({"data.homogeneous_share": 0.1, "data.batch_size": 4}))
    assert not any("repeat" in line for line in told({**named, "data.batch_size": 3}))
    with pytest.raises(BadInput, match=r"^got data\.mixed\.photo: want a source, .*; did you mean photos"):
        told({"data.mixed": {"photo": 2.0}})


def test_reading_all_training_images_says_what_to_set_for_levels_that_do_not_fit(photos):
    for path in photos.rglob("*.png"):
        Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(path)
    Image.fromarray(np.full((8, 8), 5000, np.uint16)).save(photos / "train" / "cat" / "1.png")
    for number in range(6, 20):
        Image.fromarray(np.full((8, 8), 4095, np.uint16)).save(photos / "train" / "dog" / f"{number}.png")
    data = Data(sources={"photos": Set(kind="folder", root=str(photos), bits=12)})
    with pytest.raises(BadInput, match=r"levels 5000 to 5000 in \S*1.png .*set range: \[0, 16383\]"):
        check_data(data, Pools()(data))


def test_missing_sets_and_sources_are_told_together_with_their_paths(told, tmp_path):
    away = Set(kind="folder", root=str(tmp_path / "away"))
    sets = {"a": away, "b": Set(size=32, count=8, split="test"), "c": Set(size=32, split="tost")}
    with pytest.raises(BadInput) as error:
        told({"evals.sets": sets})
    first, second = str(error.value).splitlines()
    assert first.startswith(f"evals.sets.a: got root {tmp_path / 'away'} (missing): want ")
    assert second.startswith("evals.sets.c: got split 'tost' for scenes: want one of ")
    with pytest.raises(BadInput) as error:
        told({"data.sources": {"one": away, "rooms": Set(size=32, count=5), "two": away}})
    assert [line.partition(": ")[0] for line in str(error.value).splitlines()] == [
        "data.sources.one",
        "data.sources.two",
    ]


def test_an_evaluation_that_cannot_be_is_told_by_its_path_when_it_is_opened(told):
    sets = {"a": Set(size=32, count=12, split="val"), "b": Set(size=32, count=8, split="test")}
    with pytest.raises(BadInput, match=r"^evals\.tasks\.near: got k=20 and 12 training images: want no more"):
        told({"evals.sets": sets, "evals.tasks": {"near": EvaluationTask(protocol="knn", train="a", test="b")}})
