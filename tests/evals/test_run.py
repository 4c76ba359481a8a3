from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from common import speed
from common.command import parsed
from evals import arguments, options
from evals.backbones.exported import export
from evals.backbones.timm_models import create
from evals.protocols.protocol import Protocol
from evals.protocols.reading import FOLDER
from evals.results import outcomes, table
from evals.run import main
from evals.tasks.methods import protocol_of

FEW = ["--train-images", "40", "--test-images", "20", "--sizes", "64", "--no-cache"]
QUICK = ["knn", "linear", "segmentation", "depth", "normals", "boundaries", "retrieval", "clustering", "health"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results and caches of these tests stay in the test's folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAMLAB_DATA", raising=False)


def labelled(root: Path, *, count: int = 12, top: int = 3) -> Path:
    """A segmentation set of 48 x 40 pixels in ADE20K's layout, mask values 0 to `top`."""
    draw = np.random.default_rng(0)
    for split in ("training", "validation"):
        for folder in ("images", "annotations"):
            (root / folder / split).mkdir(parents=True)
        for i in range(count):
            mask = np.kron(draw.integers(0, top + 1, (5, 6)), np.ones((8, 8))).astype(np.uint8)
            image = (mask[..., None] * 60 + draw.integers(0, 20, (40, 48, 3))).astype(np.uint8)
            Image.fromarray(mask).save(root / "annotations" / split / f"{i:03d}.png")
            Image.fromarray(image).save(root / "images" / split / f"{i:03d}.jpg")
    return root


def test_quick_tasks_run_on_embedded_rooms_and_everything_is_kept(capsys: pytest.CaptureFixture[str]):
    assert main(["random:test_vit", *QUICK, *FEW, "--plot"]) == 0
    printed = capsys.readouterr().out
    assert "95 % interval" in printed
    assert all(f"{name}-quick-v1 #" in printed for name in QUICK)
    out = table.default_folder("random:test_vit")
    frame = table.load(out / "results.jsonl")
    assert set(frame["eval"]) == set(QUICK)
    assert set(frame.run) == {"random:test_vit"}
    assert set(frame["size"]) == {64}
    assert (frame.low <= frame.value).all()
    marks = {row.protocol: f"{row.protocol}-64px-{row.protocol_hash}" for row in frame.itertuples()}
    name = marks["knn-quick-v1"]
    found = outcomes.load_outcomes(out / "outcomes" / f"knn-scenes-val-{name}.npz")
    assert found["correct"].mean() == frame[frame["eval"] == "knn"].value.item()
    pictures = {path.name for path in (out / "plots").iterdir()}
    tasks = ("segmentation", "depth", "normals", "boundaries", "retrieval", "clustering")
    dense = [f"{task}-scenes-val-{marks[f'{task}-quick-v1']}.png" for task in tasks]
    assert pictures == {"features-scenes-val-64px.png", *dense}
    for name in pictures:
        with Image.open(out / "plots" / name) as picture:
            assert picture.size[0] > 500


LIVE = {
    "linear-code": {"epochs": 1, "epoch_steps": 2, "batch_size": 4},
    "segmentation-standard": {"iterations": 2, "batch_size": 2, "warmup": 1},
    "depth-standard": {"iterations": 2, "batch_size": 2, "warmup": 1},
}


def shortened(name: str, folder: Path) -> str:
    """A file of a live protocol that ships, at a length for tests and under a name of its own."""
    settings = yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) | LIVE[name] | {"name": f"{name}-short"}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


def test_live_protocols_run_and_draw_at_a_size_that_the_patches_do_not_divide(tmp_path: Path):
    words = [word for name in LIVE for word in ("--protocol", shortened(name, tmp_path))]
    few = ["--train-images", "6", "--test-images", "4", "--sizes", "40", "--no-cache"]
    tasks = [name.partition("-")[0] for name in LIVE]
    found = {}
    for precision in ("float32", "bfloat16"):
        out = tmp_path / precision
        assert (
            main(["random:test_vit", *tasks, *words, *few, "--precision", precision, "--plot", "--out", str(out)]) == 0
        )
        rows = table.load(out / "results.jsonl")
        assert set(rows.protocol) == {f"{name}-short-v1" for name in LIVE}
        assert set(rows["size"]) == {40}
        assert set(rows.images) == {4}
        stems = {path.name.partition("-")[0] for path in (out / "plots").iterdir()}
        assert stems == {"features", "segmentation", "depth"}
        found[precision] = rows[rows["metric"] == "rmse"].value.item()
    assert found["float32"] != found["bfloat16"]


def test_a_reference_of_another_stride_is_refused_before_anything_runs(capsys: pytest.CaptureFixture[str]):
    assert main(["random:test_vit", "knn", "health", *FEW, "--reference", "random:test_resnet"]) == 2
    assert "got --reference random:test_resnet of stride 32 beside stride 16" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_several_sizes_give_rows_of_each_and_a_picture_over_them(tmp_path: Path):
    arguments = ["random:test_vit", "knn", "health", "--train-images", "24", "--test-images", "12", "--no-cache"]
    assert main([*arguments, "--sizes", "48,64", "--plot", "--out", str(tmp_path / "kept")]) == 0
    frame = table.load(tmp_path / "kept" / "results.jsonl")
    assert sorted(set(frame["size"])) == [48, 64]
    assert frame.groupby("metric").protocol_hash.nunique().min() == 2
    assert (tmp_path / "kept" / "plots" / "resolution.png").is_file()


def test_an_exported_backbone_carries_its_place_in_the_run_into_the_rows(tmp_path: Path):
    folder = tmp_path / "step_000300"
    extra = {"arm": "anchored", "seed": 2, "step": 300}
    export(create("test_vit", {}), folder, timm_name="test_vit", timm_args={}, extra=extra)
    assert main([str(folder), "knn", *FEW, "--out", str(tmp_path / "kept")]) == 0
    row = table.load(tmp_path / "kept" / "results.jsonl").iloc[0]
    assert (row.arm, row.seed, row.step) == ("anchored", 2, 300)


def photos(folder: Path, classes: int = 2) -> Path:
    """Images in folders of classes, without folders of splits."""
    draw = np.random.default_rng(0)
    for name in "abc"[:classes]:
        (folder / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(draw.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(folder / name / f"{i}.png")
    return folder


def test_a_folder_in_the_place_of_the_table_is_refused_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "results.jsonl").mkdir()
    assert main(["random:test_vit", "knn", "--out", str(tmp_path)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith(f"gramlab: {tmp_path}/results.jsonl is no file: ")
    assert (said.err.count("\n"), said.out) == (1, "")


def test_a_head_is_not_judged_on_the_images_that_it_is_fitted_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = ["--data", f"p={photos(tmp_path / 'p')}", "--sizes", "64", "--no-cache"]
    assert main(["random:test_vit", "knn@p", *given]) == 2
    assert "got the same 24 images for training and for judging (p)" in capsys.readouterr().err
    assert main(["random:test_vit", "health@p", *given]) == 0  # it has no head


def test_validating_tells_of_a_set_without_some_classes_what_its_files_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    photos(tmp_path / "p" / "train", classes=3)
    photos(tmp_path / "p" / "val")
    for path in (tmp_path / "p" / "val").rglob("*.png"):
        Image.fromarray(np.asarray(Image.open(path))[..., 0].astype(np.uint16) * 200).save(path)
    given = ["--data", f"p={tmp_path / 'p'}", "--sizes", "64", "--no-cache", "--validate"]
    assert main(["random:test_vit", "knn@p", *given]) == 0
    said = capsys.readouterr()
    assert "p/val: 24 images, all readable, levels 0 to 65535 (16-bit integers)" in said.out
    assert "no image of 1 of the 3 classes of training (c)" in said.err


def test_a_class_list_of_which_the_masks_lack_most_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = labelled(tmp_path / "shapes")
    names = ",".join(f"class {n}" for n in range(10))
    given = ["--data", f"shapes={root}", "--classes", f"shapes={names}"]
    assert main(["random:test_vit", "segmentation@shapes", *given]) == 2
    assert "got 10 classes for set 'shapes', of which 7 have no pixel in its masks" in capsys.readouterr().err


@pytest.mark.parametrize("validate", [[], ["--validate"]])
def test_masks_that_may_count_from_zero_are_asked_about_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], validate: list[str]
):
    root = labelled(tmp_path / "shapes", top=2)
    for path in (root / "annotations").glob("*/*.png"):  # a border without labels has a value of its own
        values = np.array(Image.open(path))
        values[:2] = 255
        Image.fromarray(values).save(path)
    given = ["segmentation@shapes", "--classes", "shapes=a,b,c", "--sizes", "64", "--no-cache", *validate]
    assert main(["random:test_vit", *given, "--data", f"shapes={root}"]) == 2
    assert "got masks of 'shapes' (train) that may count their 3 classes from 0 or from 1" in capsys.readouterr().err
    assert not Path("runs").exists()
    (tmp_path / "shapes.yaml").write_text("kind: ade20k\nroot: shapes\nlabels: from_zero\n")
    assert main(["random:test_vit", *given, "--data", f"shapes={tmp_path / 'shapes.yaml'}"]) == 0


def test_masks_are_worth_the_same_whatever_they_count_from(tmp_path: Path):
    root = labelled(tmp_path / "one")
    labelled(tmp_path / "zero")
    for path in (tmp_path / "zero" / "annotations").glob("*/*.png"):  # 0, unlabelled, becomes 255
        Image.fromarray(np.array(Image.open(path)) - np.uint8(1)).save(path)
    (tmp_path / "zero.yaml").write_text("{kind: ade20k, root: zero, classes: [a, b, c], labels: from_zero}")
    given = ["--sizes", "64", "--no-cache"]
    words = [f"segmentation@{name}" for name in ("one", "zero")]
    data = ["--data", f"one={root}", "--classes", "one=a,b,c", "--data", f"zero={tmp_path / 'zero.yaml'}"]
    assert main(["random:test_vit", *words, *data, *given]) == 0
    frame = table.load(table.default_folder("random:test_vit") / "results.jsonl")
    values = frame.pivot(index="metric", columns="dataset", values="value")
    assert (values.one == values.zero).all()


def measured(root: Path, *, scale: int) -> Path:
    """A set with depth of 0.5 to 4.5 m in ADE20K's layout, and in one pixel of twenty 12 m."""
    draw = np.random.default_rng(0)
    for split in ("training", "validation"):
        for folder in ("images", "depth"):
            (root / folder / split).mkdir(parents=True)
        for i in range(12):
            metres = np.kron(draw.uniform(0.5, 4.5, (5, 6)), np.ones((8, 8)))
            image = (metres[..., None] * 50 + draw.integers(0, 20, (40, 48, 3))).astype(np.uint8)
            metres[::10, ::2] = 12
            Image.fromarray((metres * scale).astype(np.uint16)).save(root / "depth" / split / f"{i:03d}.png")
            Image.fromarray(image).save(root / "images" / split / f"{i:03d}.jpg")
    return root


@pytest.mark.parametrize("validate", [[], ["--validate"]])
def test_depth_of_another_scale_is_refused_before_anything_is_computed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], validate: list[str]
):
    given = ["--data", f"tum={measured(tmp_path / 'tum', scale=5000)}", "--sizes", "64", "--no-cache", *validate]
    assert main(["random:test_vit", "depth@tum", *given]) == 2
    assert "of the known depth of 'tum' (train) outside 0.001 to 10 m, where it does" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_depth_is_worth_the_same_in_every_unit_and_what_does_not_count_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    measured(tmp_path / "tum", scale=5000)
    (tmp_path / "tum.yaml").write_text("{kind: nyu, root: tum, depth_scale: 5000}")
    data = ["--data", f"mm={measured(tmp_path / 'mm', scale=1000)}", "--data", f"tum={tmp_path / 'tum.yaml'}"]
    assert main(["random:test_vit", "depth@mm", "depth@tum", *data, "--sizes", "64", "--no-cache"]) == 0
    note = "  note: 5.00% of the known depth is outside 0.001 to 10 m and does not count"
    assert capsys.readouterr().out.splitlines().count(note) == 2
    out = table.default_folder("random:test_vit")
    frame = table.load(out / "results.jsonl")
    values = frame.pivot(index="metric", columns="dataset", values="value")
    np.testing.assert_allclose(values.mm, values.tum, rtol=1e-3)  # millimetres are coarser
    for path in (out / "outcomes").iterdir():
        kept = outcomes.load_outcomes(path)
        assert (kept["outside_pixels"].sum() / kept["known_pixels"].sum()) == pytest.approx(0.05)


def test_classes_that_are_not_judged_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    given = ["--data", f"shapes={labelled(tmp_path / 'shapes')}", "--classes", "shapes=a,b,c,d", "--sizes", "64"]
    assert main(["random:test_vit", "segmentation@shapes", "clustering@shapes", *given, "--no-cache"]) == 2
    assert "may count their 4 classes from 0 or from 1" in capsys.readouterr().err
    (tmp_path / "shapes.yaml").write_text("{kind: ade20k, root: shapes, labels: from_one}")
    given[1] = f"shapes={tmp_path / 'shapes.yaml'}"
    assert main(["random:test_vit", "segmentation@shapes", "clustering@shapes", *given, "--no-cache"]) == 0
    assert capsys.readouterr().out.count("  note: 1 of 4 classes are in none of these masks (d)\n") == 2


def test_data_is_found_by_its_name_and_shared_by_tasks(tmp_path: Path):
    root = labelled(tmp_path / "shapes")
    words = ["segmentation@shapes", "retrieval@shapes", "--data", f"shapes={root}", "--classes", "shapes=a,b,c"]
    assert main(["random:test_vit", *words, "--sizes", "64", "--cache", str(tmp_path / "cache")]) == 0
    frame = table.load(table.default_folder("random:test_vit") / "results.jsonl")
    assert set(frame.dataset) == {"shapes"}
    assert set(frame["eval"]) == {"segmentation", "retrieval"}
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 2


def test_a_class_list_that_is_assumed_is_said_and_lines_tell_when_tasks_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = labelled(tmp_path / "shapes", top=80)
    assert main(["random:test_vit", "segmentation@shapes", "--data", f"shapes={root}", "--sizes", "64"]) == 0
    said = capsys.readouterr()
    assert "shapes: no class list given, ADE20K's 150 assumed; --classes shapes=LIST names another" in said.err
    assert "segmentation on shapes/val at 64 px: mIoU" in said.err
    assert "segmentation on shapes/val at 64 px, 12 images" in said.out


@pytest.mark.parametrize("validate", [[], ["--validate"]])
def test_a_class_list_that_is_assumed_and_mostly_absent_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], validate: list[str]
):
    given = ["--data", f"shapes={labelled(tmp_path / 'shapes', top=11)}", "--sizes", "64", *validate]
    assert main(["random:test_vit", "segmentation@shapes", *given]) == 2
    said = capsys.readouterr()
    assert "got no list of classes for 'shapes' (train), whose masks hold none of 139 of the 150 classes" in said.err
    assert "ready" not in said.out


def test_a_reference_gives_the_gram_drift(capsys: pytest.CaptureFixture[str]):
    assert main(["random:test_vit", "health", *FEW, "--reference", "random:test_vit"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "Gram drift" in line]
    assert line.split()[2:] == ["0.000", "0.000", "to", "0.000"]


def test_the_list_names_every_task_and_protocol(capsys: pytest.CaptureFixture[str]):
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert all(f"{name}-quick-v1" in printed for name in QUICK)
    assert all(name in printed for name in ("linear-paper-v1", "linear-code-v1", "segmentation-standard-v1"))


def test_validating_reads_every_file_and_evaluates_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    root = labelled(tmp_path / "shapes")
    words = ["random:test_vit", "segmentation@shapes", "--data", f"shapes={root}", "--validate", "--sizes", "64,32"]
    assert main([*words, "--classes", "shapes=a,b,c"]) == 0
    printed = capsys.readouterr().out
    assert "12 images" in printed
    for size in (64, 32):
        used = replace(protocol_of("segmentation"), size=size)
        assert f"ready: segmentation@shapes at {size} px by segmentation-quick-v1 #{used.hash()}" in printed
    assert not (tmp_path / "runs").exists()
    assert main([*words, "--classes", "shapes=a,b"]) == 2
    assert "classes" in capsys.readouterr().err
    for split in ("training", "validation"):
        torn = root / "images" / split / "003.jpg"
        torn.write_bytes(torn.read_bytes()[:300])
    assert main([*words, "--classes", "shapes=a,b,c"]) == 2
    said = capsys.readouterr().err
    train, val = said.splitlines()
    assert "shapes/train: got unreadable image" in train
    assert "shapes/val: got unreadable image" in val
    assert "exclude: [images/training/003.jpg] in the set's YAML (--data shapes=FILE.yaml; evals.sets" in train
    assert main([word for word in [*words, "--classes", "shapes=a,b,c", "--no-cache"] if word != "--validate"]) == 2
    said = capsys.readouterr().err
    assert "exclude: [images/training/003.jpg] in the set's YAML (--data shapes=FILE.yaml; evals.sets" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "got no backbone"),
        (["random:test_vti"], "test_vit"),
        (["random:test_vit", "kn"], "did you mean 'knn'"),
        (["random:test_vit", "knn", "--sizes", "70"], "want a multiple; try 64"),
        (["random:test_vit", "knn", "--sizes", "big"], "want pixels, as in --sizes 224,448"),
        (["random:test_vit", "--sise", "64"], "unrecognized arguments: --sise"),
        (["random:test_vit", "knn", "--data", "/nowhere"], "want NAME=VALUE"),
        (["random:test_vit", "knn", "--data", "knn=/nowhere/at/all"], "/nowhere/at/all"),
        (["random:test_vit", "knn", "--data", "photos=/nowhere"], "got --data photos=…, which no task uses"),
        (["random:test_vit", "segmentation@ade20k"], "--data ade20k="),
        (["random:test_vit", "knn@nothing"], "--data nothing="),
        (["random:test_vit", "knn", "--protocol", "fast"], "want quick, published or a .yaml file"),
        (["random:test_vit", "knn", "--protocol", "/nowhere.yaml"], "got protocol /nowhere.yaml"),
        (["random:test_vit", "knn", "--batch-size", "0"], "want at least 1"),
        (["random:test_vit", "knn", "--out", "/dev/null/x"], "got /dev/null/x for results"),
        (["random:test_vit", "knn", "--sizes", "64", "--out", "/proc/gramlab"], "/proc/gramlab"),
        (["random:test_vit", "knn", "--cache", "/dev/null"], "got /dev/null for the cache"),
        (["random:test_vit", "knn", "--points", "2,2", "--plot"], "got point '2,2'"),
        (["random:test_vit", "knn", "--points", "0.5,0.5"], "got --points without --plot"),
        (["random:test_vit", "knn", "--reference", "random:test_vit"], "which no task uses: want health"),
        (["random:test_vit", "knn", "--classes", "knn=a,b"], "got --classes knn=…, which no task uses"),
        (["random:vit_tiny_patch16_224", "knn", "--validate", "--sizes", "100"], "want a multiple; try 96"),
        (["/nowhere/at/all", "knn"], "/nowhere/at/all"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.startswith("gramlab: ")
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_the_script_runs_from_anywhere(tmp_path: Path):
    script = Path(__file__).resolve().parents[2] / "evals" / "run.py"
    command = [sys.executable, str(script), "--list"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert "knn-quick-v1" in done.stdout


def asked(*words: str) -> dict[str, Protocol]:
    """The protocols that a command line asks for."""
    args = parsed(arguments.evaluate, "eval", ["random:test_vit", *words, "--no-cache"])
    return {word: spec.protocol for word, spec in options.open_tasks(args, options.precision(args)).items()}


@pytest.mark.parametrize(("bfloat16", "chosen"), [(3e11, "bfloat16"), (1e9, "float32")])
def test_auto_is_settled_before_protocols_are_hashed(capsys, monkeypatch, bfloat16, chosen):
    monkeypatch.setattr(speed, "precision_rates", lambda device: {"float32": 1e11, "bfloat16": bfloat16})
    found = asked("knn", "depth", "--precision", "auto")
    assert f"precision: {chosen}, chosen by auto: bfloat16 runs at " in capsys.readouterr().err
    assert found == asked("knn", "depth", "--precision", chosen)
    assert found["knn"].hash() == replace(protocol_of("knn"), precision=chosen).hash()


@pytest.mark.parametrize(("bfloat16", "told"), [(1e9, True), (3e11, False)])
def test_a_protocol_in_bfloat16_is_told_before_it_starts_where_that_is_slow(capsys, monkeypatch, bfloat16, told):
    monkeypatch.setattr(speed, "precision_rates", lambda device: {"float32": 1e11, "bfloat16": bfloat16})
    assert asked("knn", "linear", "--protocol", "knn=paper")["knn"] == protocol_of("knn-paper")
    line = "knn: bfloat16 runs at 0.01 times the rate of float32 here (1 against 100 GFLOP/s); --precision float32"
    assert (line in capsys.readouterr().err) == told


def test_nothing_is_measured_where_no_protocol_asks_for_bfloat16(monkeypatch):
    monkeypatch.setattr(speed, "precision_rates", lambda device: pytest.fail("measured"))
    assert asked("knn", "linear") == {name: protocol_of(name) for name in ("knn", "linear")}
