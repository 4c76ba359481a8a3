from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from common.errors import BadInput
from evals.results.differences import Comparison, compare
from evals.results.evaluations import EvaluationKey, find
from evals.results.outcomes import load_outcomes, save_outcomes
from evals.results.table import Measurement, default_folder

KEYS = np.array([f"image-{number}" for number in range(60)])


def save(
    folder: Path,
    eval: str,
    *metrics: str,
    size: int = 64,
    digest: str = "0a1b2c3d",
    split: str = "val",
    data: str = "5cab1e00",
    against: str = "",
    backbone: str = "",
    **arrays: np.ndarray,
) -> Path:
    """Outcomes as evals/run.py leaves them; every array has a row for each of `KEYS`, or brings its own keys."""
    outcomes = {"keys": KEYS, **arrays}
    rows = [
        Measurement(
            eval=eval, protocol=f"{eval}-quick-v1", protocol_hash=digest, size=size, dataset="scenes", split=split,
            data=data, metric=metric, value=0.0, low=0.0, high=0.0, images=len(outcomes["keys"]), outcomes=outcomes,
            against=against, backbone=backbone,
        )
        for metric in metrics
    ]  # fmt: skip
    save_outcomes(folder / "outcomes", rows)
    return folder


def between(a: Path, b: Path, **chosen: list[str]) -> Comparison:
    return compare(find(str(a)), find(str(b)), **chosen)


def draws(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(len(KEYS))


def test_a_planted_difference_is_found_with_its_size(tmp_path: Path):
    hard = draws()
    a = save(tmp_path / "a", "depth", "rmse", rmse=hard)
    b = save(tmp_path / "b", "depth", "rmse", rmse=hard - 0.05 + 0.01 * draws(1))
    (found,) = between(a, b).differences
    assert found.difference == pytest.approx(found.b - found.a)
    assert found.low < found.difference < found.high < 0
    assert found.high - found.low < 0.01  # the images' own spread, 0.3, is in both and falls out
    assert (found.verdict, found.judgement) == ("lower", "better")


def test_more_of_what_is_good_is_better_and_more_of_what_is_bad_is_worse(tmp_path: Path):
    a = save(tmp_path / "a", "depth", "rmse", "delta1", rmse=draws(), delta1=draws())
    b = save(tmp_path / "b", "depth", "rmse", "delta1", rmse=draws() + 0.1, delta1=draws() + 0.1)
    found = {one.metric: (one.verdict, one.judgement) for one in between(a, b).differences}
    assert found == {"rmse": ("higher", "worse"), "delta1": ("higher", "better")}


def test_equal_sides_differ_by_nothing_and_nothing_is_decided(tmp_path: Path):
    a = save(tmp_path / "a", "knn", "top1", correct=draws() < 0.5)
    (found,) = between(a, a).differences
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.verdict, found.judgement) == ("undecided", "")


def test_images_are_paired_by_key_whatever_their_order_and_only_shared_ones_count(tmp_path: Path):
    order = np.random.default_rng(2).permutation(len(KEYS))[:50]
    a = save(tmp_path / "a", "depth", "rmse", rmse=draws())
    b = save(tmp_path / "b", "depth", "rmse", keys=KEYS[order], rmse=draws()[order])
    (found,) = between(a, b).differences
    assert (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
    assert (found.images, found.images_a, found.images_b) == (50, 60, 50)
    assert found.a == pytest.approx(draws()[order].mean())


def test_one_image_alone_decides_nothing(tmp_path: Path):
    a = save(tmp_path / "a", "depth", "rmse", keys=KEYS[:1], rmse=np.array([0.5]))
    b = save(tmp_path / "b", "depth", "rmse", keys=KEYS[:1], rmse=np.array([0.9]))
    assert between(a, b).differences[0].verdict == "undecided"


def test_unlike_protocols_are_refused_by_both_hashes_and_the_rest_is_compared(tmp_path: Path):
    for name, digest in (("a", "aaaaaaaa"), ("b", "bbbbbbbb")):
        save(tmp_path / name, "knn", "top1", correct=draws() < 0.5)
        save(tmp_path / name, "depth", "rmse", rmse=draws(), digest=digest)
    found = between(tmp_path / "a", tmp_path / "b")
    assert [one.metric for one in found.differences] == ["top1"]
    assert len(found.refused) == 1
    assert "aaaaaaaa" in found.refused[0]
    assert "bbbbbbbb" in found.refused[0]
    with pytest.raises(BadInput, match="aaaaaaaa in A, bbbbbbbb in B"):
        between(tmp_path / "a", tmp_path / "b", tasks=["depth"])


def test_other_classes_or_other_images_are_refused(tmp_path: Path):
    areas = {name: np.ones((60, 4), int) for name in ("intersect", "predicted", "truth")}
    a = save(tmp_path / "a", "segmentation", "miou", **areas)
    b = save(tmp_path / "b", "segmentation", "miou", **{name: x[:, :3] for name, x in areas.items()})
    with pytest.raises(BadInput, match="unlike classes"):
        between(a, b)
    c = save(tmp_path / "c", "segmentation", "miou", keys=np.char.add("other-", KEYS), **areas)
    with pytest.raises(BadInput, match="no image in common"):
        between(a, c)


def test_other_files_or_another_split_under_the_same_names_are_not_compared(tmp_path: Path):
    right = draws() < 0.5
    a = save(tmp_path / "a", "knn", "top1", correct=right)
    with pytest.raises(BadInput, match=r"unlike files or class lists .*\(data 5cab1e00 in A, 00000000 in B\)"):
        between(a, save(tmp_path / "b", "knn", "top1", data="00000000", correct=right))
    with pytest.raises(BadInput, match="knn on scenes/test, knn-quick-v1 at 64 px #0a1b2c3d: B alone"):
        between(a, save(tmp_path / "c", "knn", "top1", split="test", correct=right))


def test_a_difference_of_rounding_decides_nothing(tmp_path: Path):
    errors = 0.5 + draws()
    a = save(tmp_path / "a", "depth", "rmse", rmse=errors)
    b = save(tmp_path / "b", "depth", "rmse", rmse=errors + 2e-8)
    (found,) = between(a, b).differences
    assert found.low > 0
    assert (found.verdict, found.judgement) == ("undecided", "")


def test_a_metric_of_another_version_is_named_with_its_file(tmp_path: Path):
    folder = save(tmp_path / "a", "knn", "top1", "beauty", correct=draws() < 0.5)
    with pytest.raises(BadInput, match=r"a/outcomes/knn.*\.npz: got metric 'beauty'"):
        find(str(folder))


def test_heads_of_unlike_training_sets_are_refused(tmp_path: Path):
    sides = [save(tmp_path / name, "knn", "top1", against=name, correct=draws() < 0.5) for name in "ab"]
    with pytest.raises(BadInput, match="fitted on unlike training sets"):
        between(*sides)


def test_drift_from_unlike_references_is_left_out_and_the_rest_is_compared(tmp_path: Path):
    metrics = ("dse", "gram_drift")
    arrays = {name: draws() for name in metrics}
    a, b, c = (
        save(tmp_path / n, "health", *metrics, against=ref, **arrays) for n, ref in zip("abc", "xyx", strict=True)
    )
    assert [one.metric for one in between(a, b).differences] == ["dse"]
    assert [line for line in between(a, b).refused if "Gram drift from unlike reference" in line]
    assert between(a, c).refused == []
    assert [one.metric for one in between(a, c).differences] == ["dse", "gram_drift"]


def test_outcomes_of_earlier_weights_are_left_out(tmp_path: Path):
    folder = save(tmp_path / "a", "depth", "rmse", backbone="old", rmse=draws())
    save(folder, "knn", "top1", backbone="new", correct=draws() < 0.5)
    (old,) = (folder / "outcomes").glob("depth*")
    os.utime(old, ns=(1, 1))
    assert [about.eval for about in find(str(folder))] == ["knn"]


def test_evaluations_of_one_side_alone_are_listed(tmp_path: Path):
    a = save(tmp_path / "a", "knn", "top1", correct=draws() < 0.5)
    save(a, "depth", "rmse", rmse=draws())
    b = save(tmp_path / "b", "knn", "top1", correct=draws() < 0.5)
    save(b, "knn", "top1", correct=draws() < 0.5, size=128)
    found = between(a, b)
    assert found.unpaired == [
        "depth on scenes/val, depth-quick-v1 at 64 px #0a1b2c3d: A",
        "knn on scenes/val, knn-quick-v1 at 128 px #0a1b2c3d: B",
    ]


def test_tags_tasks_and_metrics_choose_what_is_compared(tmp_path: Path):
    arrays = {"correct@10": draws() < 0.5, "correct@20": draws() < 0.6, "in_top5@10": draws() < 0.9}
    a = save(tmp_path / "a", "knn", "top1@10", "top1@20", "top5@10", **arrays)
    save(a, "depth", "rmse", rmse=draws())
    metrics = [one.metric for one in between(a, a).differences]
    assert metrics == ["top1@10", "top1@20", "top5@10", "rmse"]  # image classes first
    assert [one.metric for one in between(a, a, metrics=["top1"]).differences] == ["top1@10", "top1@20"]
    assert [one.metric for one in between(a, a, tasks=["depth@scenes"]).differences] == ["rmse"]
    with pytest.raises(BadInput, match="did you mean 'rmse'"):
        between(a, a, metrics=["rsme"])
    with pytest.raises(BadInput, match="got task 'segmentation': want one of depth, knn, scenes"):
        between(a, a, tasks=["segmentation"])


def test_a_backbone_is_found_by_its_name_in_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    save(default_folder("random:test_vit"), "knn", "top1", correct=draws() < 0.5)
    assert list(find("random:test_vit")) == [EvaluationKey("knn", "scenes", "val", "knn-quick-v1", 64, "0a1b2c3d")]


def test_what_a_step_folder_lacks_comes_from_the_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    step = save(Path("runs/trial/plain-s0/step_000100"), "knn", "top1", correct=draws() < 0.5)
    save(default_folder(str(step)), "knn", "top1", correct=draws() < 0.5)
    save(default_folder(str(step)), "depth", "rmse", rmse=draws())
    found = {about.eval: one.path.parents[1] for about, one in find(str(step)).items()}
    assert found == {"knn": step, "depth": default_folder(str(step))}


def test_missing_outcomes_say_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match=r"do run: python evals/run.py random:test_vit$"):
        find("random:test_vit")
    (tmp_path / "plain-s0" / "step_000500").mkdir(parents=True)
    with pytest.raises(BadInput, match="do name one of its steps, as plain-s0/step_000500"):
        find("plain-s0")


def test_a_step_that_is_not_there_is_answered_with_those_that_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for step in ("step_000100", "step_000500", "step_000500 (copy)", "step_old"):
        save(Path("runs/trial/plain-s0") / step, "knn", "top1", correct=draws() < 0.5)
    with pytest.raises(BadInput, match=r"do name a step that runs/trial/plain-s0 has: step_000100, step_000500$"):
        find("runs/trial/plain-s0/step_000300")
    with pytest.raises(BadInput, match=r"do name one of its steps, as runs/trial/plain-s0/step_000500$"):
        find("runs/trial")
    with pytest.raises(BadInput, match=r"do correct the name, since runs/trail is not there$"):
        find("runs/trail")
    with pytest.raises(BadInput, match=r"do run: python evals/run.py timm:vit_small$"):
        find("timm:vit_small")


def test_outcomes_that_lack_what_a_metric_is_computed_from_are_named(tmp_path: Path):
    step = save(tmp_path, "knn", "top1", correct=draws() < 0.5)
    (path,) = step.glob("outcomes/*.npz")
    kept = {name: array for name, array in load_outcomes(path).items() if name != "correct"}
    np.savez_compressed(path, allow_pickle=False, **kept)
    with pytest.raises(BadInput, match=r"\.npz without all that top1 is computed from: do evaluate again"):
        find(str(step))


def test_outcomes_that_do_not_say_what_they_are_and_damaged_ones_are_named(tmp_path: Path):
    folder = tmp_path / "outcomes"
    folder.mkdir()
    np.savez(folder / "old.npz", keys=KEYS)
    with pytest.raises(
        BadInput,
        match=r"old\.npz without eval, dataset, protocol, protocol_hash, size, split, data, against, backbone, metrics",
    ):
        find(str(tmp_path))
    (folder / "old.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(BadInput, match=r"unreadable outcomes .*old\.npz"):
        find(str(tmp_path))


def test_numbers_are_written_in_their_unit_with_the_decimals_that_tell(tmp_path: Path):
    save(tmp_path, "knn", "top1", correct=draws() < 0.5)
    save(tmp_path, "depth", "rmse", rmse=draws())
    save(tmp_path, "health", "effective_rank", "gram_drift", effective_rank=100 + draws(), gram_drift=1e-6 * draws())
    found = {one.metric: one for one in between(tmp_path, tmp_path).differences}
    assert found["top1"].write(0.012345, "+") == "+1.23"
    assert found["top1"].unit == "%"
    assert found["rmse"].write(-0.012345) == "-0.0123"
    assert found["effective_rank"].write(101.23) == "101.2"
    assert found["gram_drift"].write(5.0001e-7) == "5.00e-07"
