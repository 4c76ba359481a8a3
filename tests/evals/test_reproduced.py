"""`gramlab eval --check` from end to end: a tiny network, a few images, and published values of the test's own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import yaml
from PIL import Image
from safetensors.torch import save_file

from evals.backbones.exported import export
from evals.backbones.timm_models import create
from evals.results import table
from evals.run import main
from evals.tasks.methods import protocol_of

KNN = replace(protocol_of("knn"), size=64)
TINY = {"title": "Tiny", "weights": ["timm:test_vit.r160_in1k", "sha256:0123456789"], "patch": 16, "millions": 0.3}
GIVEN = ["--data", "photos=photos", "--sizes", "64", "--no-cache", "--references", "r.yaml"]


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two classes of twelve images for each split, half of them of the other class's kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAMLAB_DATA", raising=False)
    draw = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate("ab"):
            folder = tmp_path / "photos" / split / name
            folder.mkdir(parents=True)
            for i in range(12):
                low = 128 * (label if i % 2 else draw.integers(0, 2))
                Image.fromarray(draw.integers(low, low + 128, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    export(create("test_vit", {}), tmp_path / "mine", timm_name="test_vit", timm_args={})


def published(value: float, *, model: dict[str, Any] | None = None, also: dict[str, Any] | None = None, **ours: Any):
    """Write r.yaml: one value of kNN, and how it was made."""
    made = {
        "protocol": KNN.id, "hash": KNN.hash(), "size": 64, "precision": "float32", "dataset": "photos",
        "split": "val", "train_images": 24, "images": 24, "tolerance": 0.5, "because": "it is a test",
    }  # fmt: skip
    knn = {"source": "Table 1", "task": "knn", "metric": "top1", "how": "k = 20 at 224 px", "decimals": 1}
    tables = {"made": {**knn, "values": {"tiny": value}, "ours": {**made, **ours}}, **(also or {})}
    text = yaml.safe_dump({"models": {"tiny": {**TINY, **(model or {})}}, "tables": tables})
    Path("r.yaml").write_text(text)


@pytest.fixture
def measured(photos: None, capsys: pytest.CaptureFixture[str]) -> float:
    """What kNN gives here, in per cent."""
    assert main(["mine", "knn@photos", *GIVEN[:-2], "--out", "first"]) == 0
    capsys.readouterr()
    (row,) = table.load(Path("first/results.jsonl")).itertuples()
    assert 0.3 < row.value < 1
    return 100 * row.value


def test_a_value_that_agrees_is_told_with_all_that_a_reader_needs(measured: float, capsys: pytest.CaptureFixture[str]):
    published(round(measured + 0.4, 1))
    assert main(["mine", "knn@photos", *GIVEN, "--check", "tiny"]) == 0
    printed = capsys.readouterr().out
    told = printed[printed.index("tiny, Tiny") :].splitlines()
    assert told[0].endswith("beside what is published; agree: 1")
    assert told[2] == "knn@photos: top-1 accuracy"
    assert told[3].startswith(f"  ours       {measured:.2f} [")
    assert f"]: knn-quick-v1 #{KNN.hash()}, 95 % interval over images" in told[3]
    assert told[4] == f"  published  {measured + 0.4:.1f} %: k = 20 at 224 px (Table 1)"
    apart = measured - round(measured + 0.4, 1)
    assert told[5] == f"  agrees     {apart:+.2f}, within 0.5: it is a test"


def test_a_value_that_differs_ends_with_code_one_and_its_row_is_kept(
    measured: float, capsys: pytest.CaptureFixture[str]
):
    published(round(measured - 2, 1))
    assert main(["mine", "knn@photos", *GIVEN, "--out", "out", "--check", "tiny"]) == 1
    apart = measured - round(measured - 2, 1)
    assert f"  differs by {apart:+.2f}, not within 0.5: it is a test" in capsys.readouterr().out
    assert len(table.load(Path("out/results.jsonl"))) == 1


@pytest.mark.parametrize(("off", "code"), [(0.5, 0), (-0.5, 0), (0.6, 1), (-0.6, 1)])
def test_the_tolerance_belongs_to_what_agrees_either_way(measured: float, off: float, code: int):
    published(measured + off)
    assert main(["mine", "knn@photos", *GIVEN, "--check", "tiny"]) == code


def test_what_does_not_compare_is_told_beside_what_does_and_fails_nothing(
    measured: float, capsys: pytest.CaptureFixture[str]
):
    linear = {"source": "Table 2", "task": "linear", "metric": "top1", "how": "100 epochs", "decimals": 1}
    published(measured, also={"probe": {**linear, "values": {"tiny": 3.0}, "ours": None}})
    assert main(["mine", "knn@photos", "linear@photos", "health@photos", *GIVEN, "--check", "tiny"]) == 0
    printed = capsys.readouterr().out
    assert "beside what is published; agree: 1, not comparable: 1" in printed
    told = printed[printed.index("linear@photos: top-1") :].splitlines()
    assert told[1] == "  published  3.0 %: 100 epochs (Table 2)"
    assert told[2] == "  not comparable: ours is linear-quick-v1, and no protocol here does what was published"


@pytest.mark.parametrize(
    ("ours", "said"),
    [
        ({"protocol": "knn-paper-v1"}, "ours is knn-quick-v1 instead of knn-paper-v1"),
        ({"protocol": "knn-quick-v2"}, "ours is knn-quick-v1 instead of knn-quick-v2"),
        ({"size": 224, "hash": "00000000"}, "ours has size=64 instead of size=224"),
        ({"precision": "bfloat16", "hash": "00000000"}, "ours has precision=float32 instead of precision=bfloat16"),
        ({"hash": "00000000"}, f"ours is knn-quick-v1 #{KNN.hash()} instead of #00000000"),
        ({"dataset": "imagenet"}, "ours is on photos/val instead of imagenet/val"),
        ({"split": "test"}, "ours is on photos/val instead of photos/test"),
        ({"images": 50000}, "ours is on 24 images instead of 50,000"),
        ({"train_images": 1281167}, "ours has 24 training images instead of 1,281,167"),
        (
            {"protocol": "knn-paper-v1", "dataset": "imagenet"},
            "ours is knn-quick-v1 instead of knn-paper-v1 and ours is on photos/val instead of imagenet/val",
        ),
    ],
)
def test_where_nothing_compares_the_reason_is_told_before_anything_is_computed(
    ours: dict[str, Any], said: str, capsys: pytest.CaptureFixture[str]
):
    published(50.0, **ours)
    assert main(["mine", "knn@photos", *GIVEN, "--check", "tiny"]) == 2
    captured = capsys.readouterr()
    assert f"(knn@photos: {said}): want one; do take a command that `gramlab eval --check tiny` lists" in captured.err
    assert (captured.out, captured.err.count("\n")) == ("", 1)
    assert not Path("runs").exists()


def test_a_cap_on_the_images_is_named(capsys: pytest.CaptureFixture[str]):
    published(50.0)
    assert main(["mine", "knn@photos", *GIVEN, "--test-images", "20", "--check", "tiny"]) == 2
    assert "ours has test_images=20 instead of test_images=null" in capsys.readouterr().err


def test_nothing_is_loaded_where_nothing_compares(capsys: pytest.CaptureFixture[str]):
    """No network lies there: had it been asked for, the folder would be what is complained of."""
    published(50.0, images=50000)
    assert main(["nowhere", "knn@photos", *GIVEN, "--check", "tiny"]) == 2
    assert "ours is on 24 images instead of 50,000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("dinov3:/nofile.pth", "got no file /nofile.pth for dinov3:/nofile.pth"),
        ("timm:vit_smal_patch16_dinov3", "did you mean vit_small_patch16_dinov3"),
    ],
)
def test_weights_that_do_not_exist_are_told_before_whose_they_are(address, said, capsys: pytest.CaptureFixture[str]):
    published(50.0)
    assert main([address, "knn@photos", *GIVEN, "--check"]) == 2
    assert said in capsys.readouterr().err


def test_validating_tells_what_will_be_compared_and_evaluates_nothing(capsys: pytest.CaptureFixture[str]):
    published(50.0)
    assert main(["mine", "knn@photos", *GIVEN, "--validate", "--check", "tiny"]) == 0
    assert "to be checked: knn@photos: top-1 accuracy, published 50.0 %" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_a_name_that_a_hub_serves_is_recognised_and_another_claim_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The hub's cache, as its client lays it out, with weights of the test."""
    cached = tmp_path / "hub" / "models--timm--test_vit.r160_in1k"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    (cached / "snapshots" / ("0" * 40)).mkdir(parents=True)
    network = timm.create_model("test_vit")
    save_file(network.state_dict(), cached / "snapshots" / ("0" * 40) / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    published(50.0, tolerance=100.0)
    assert main(["timm:test_vit", "knn@photos", *GIVEN, "--check"]) == 0
    assert "tiny, Tiny (by its address), beside what is published; agree: 1" in capsys.readouterr().out
    other = yaml.safe_load(Path("r.yaml").read_text())
    other["models"]["small"] = {**TINY, "weights": ["hf:a/small"]}
    Path("r.yaml").write_text(yaml.safe_dump(other))
    assert main(["timm:test_vit", "knn@photos", *GIVEN, "--check", "small"]) == 2
    assert "got --check small for timm:test_vit, the weights of tiny" in capsys.readouterr().err


def test_a_claim_is_told_to_be_one(measured: float, capsys: pytest.CaptureFixture[str]):
    published(measured)
    assert main(["mine", "knn@photos", *GIVEN, "--check", "tiny"]) == 0
    assert "tiny, Tiny (only the command line says that these are its weights), " in capsys.readouterr().out


@pytest.mark.parametrize("model", [{"patch": 14}, {"millions": 21}])
def test_a_claim_that_the_network_contradicts_is_refused(model: dict, capsys: pytest.CaptureFixture[str]):
    published(50.0, model=model)
    assert main(["mine", "knn@photos", *GIVEN, "--check", "tiny"]) == 2
    said = capsys.readouterr().err
    assert "got mine to be checked as tiny, with 0.306 million parameters and patches of 16 px: want about" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mine", "knn@photos", *GIVEN, "--check"], "got --check for mine, which does not tell whose weights it holds"),
        (["random:test_vit", "knn@photos", *GIVEN, "--check"], "do write --check NAME if you know that it is NAME"),
        (["mine", *GIVEN, "--check", "knn@photos"], "a word that follows it is taken for one"),
        (["mine", "knn@photos", *GIVEN, "--check", "tinny"], "did you mean 'tiny'?"),
        (["mine", "knn@photos", *GIVEN], "got --references without --check, which reads them"),
        (["--check", "--references", "nowhere.yaml"], "nowhere.yaml"),
        (["--check", "--references", "mine/backbone.json"], "mine/backbone.json: "),
        (["--check", "tinny", "--references", "r.yaml"], "did you mean 'tiny'?"),
        (["mine", "health@photos", *GIVEN, "--check", "tiny"], "(health@photos: no value is published)"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
):
    published(50.0)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err
    assert captured.err.startswith("gramlab: ")
    assert not Path("runs").exists()


def test_without_a_backbone_the_references_are_listed_with_their_commands(capsys: pytest.CaptureFixture[str]):
    published(50.0)
    assert main(["--check", "--references", "r.yaml"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[2] == "tiny, Tiny: timm:test_vit.r160_in1k, sha256:0123456789"
    assert listed[3] == "  knn, top-1 accuracy: 50.0 % ± 0.5 [made]"
    command = "gramlab eval timm:test_vit.r160_in1k knn@photos --data photos=FOLDER --protocol quick --sizes 64"
    assert listed[4] == f"    {command} --references r.yaml --check"
    assert listed[6] == "[made] k = 20 at 224 px. Table 1. Tolerance: it is a test"
