"""What evaluations keep for pictures: chosen by rule, as the heads predicted it, never at an evaluation's expense."""

import logging

import numpy as np
import pytest
import torch

from common.bounded import size_words
from evals.datasets.catalogue import open_set
from evals.datasets.settings import Set
from evals.one_task import TaskSpec
from evals.pictures.recorder import Images, chosen
from evals.results import pictured
from evals.results.outcomes import load_outcomes
from evals.results.pictured import features_path, images_folder, load_known, load_seen
from evals.tasks.methods import protocol_of
from harness.beginning import fresh_state
from harness.eval_settings import EvaluationTask
from harness.evaluate import Evaluator
from harness.job_folder import step_folder
from harness.train import export_backbone

SETS = {"a": Set(size=32, count=24, split="val"), "b": Set(size=32, count=7, split="test")}
TASKS = {name: EvaluationTask(protocol=name, train="a", test="b") for name in ("segmentation", "depth", "knn")}
DENSE = {"evals.sets": SETS, "evals.tasks": TASKS, "evals.pictures": 3}


@pytest.fixture
def exported(make_job):
    job = make_job(DENSE)
    export(job)
    return job


def export(job):
    """Write the backbone of step 0; returns its folder."""
    export_backbone(job, fresh_state(job.settings, 0, torch.device("cpu")), step_folder(job, 0), which="teacher")
    return step_folder(job, 0)


def evaluator(job, change, values=None, *, name="tiny"):
    return Evaluator(change(job.settings, values or {}), job.view.parent.with_name(name))


def test_what_is_kept_is_what_was_judged(exported, change):
    folder, evaluate = step_folder(exported, 0), evaluator(exported, change)
    evaluate(exported, 0, folder)
    about, seen = load_seen(features_path(folder, evaluate.identity))
    record, known = load_known(images_folder(folder.parent, evaluate.identity) / "images-3.npz")
    test = evaluate.tasks["depth"].test_set
    assert about.images == record.images == [("b", "test", test.key(at)) for at in (0, 2, 4)]
    assert about.depth == {"b/test": f"depth-quick-v1 #{evaluate.tasks['depth'].protocol.hash()}"}
    outcomes = {path.name.split("-")[0]: load_outcomes(path) for path in evaluate.outcomes(folder).iterdir()}
    for place, (image, one) in zip((0, 2, 4), seen.items(), strict=True):
        truth = known[image]
        np.testing.assert_array_equal(truth.image, test.image(place))
        np.testing.assert_array_equal(truth.segmentation, test.mask(place))
        right = (one.segmentation == truth.segmentation)[truth.segmentation != 255].sum()
        assert right == outcomes["segmentation"]["intersect"][place].sum()
        assert one.depth is not None
        assert truth.depth is not None
        gap = (one.depth.astype(float) - truth.depth.astype(float))[np.isfinite(one.depth)]
        assert np.sqrt((gap**2).mean()) == pytest.approx(outcomes["depth"]["rmse"][place], rel=2e-3)
        assert one.features.shape == (4, 4, 32)


@pytest.mark.parametrize("count", [0, 5])
def test_the_setting_is_no_part_of_any_identity(exported, change, count):
    one = evaluator(exported, change, {"evals.pictures": count})
    assert (one.identity, exported.identity) == ("03147a33075472b4", "5514f1a8e386c208")


def test_pictures_change_no_value_and_none_are_kept_where_they_are_off(make_job, tmp_path):
    kept = []
    for count in (0, 3):
        job = make_job({**DENSE, "evals.pictures": count}, folder=tmp_path / str(count))
        folder, evaluate = export(job), Evaluator(job.settings, job.view.parent)
        evaluate(job, 0, folder)
        assert (folder / "pictures").exists() == (count > 0)
        files = [evaluate.mark(folder), *sorted(evaluate.outcomes(folder).iterdir()), evaluate.table]
        kept.append([path.read_bytes() for path in files])
    assert kept[0] == kept[1]


def test_a_step_is_not_evaluated_again_for_its_pictures(exported, change):
    folder, evaluate = step_folder(exported, 0), evaluator(exported, change, {"evals.pictures": 0})
    assert evaluate(exported, 0, folder)
    assert not (folder / "pictures").exists()
    later = evaluator(exported, change, {"evals.pictures": 3})
    assert later(exported, 0, folder) == {}
    assert not (folder / "pictures").exists()


def test_two_experiments_of_one_segment_keep_theirs(exported, change):
    folder = step_folder(exported, 0)
    other = {"evals.sets": {**SETS, "b": Set(size=32, count=5, split="test")}}
    one, two = evaluator(exported, change), evaluator(exported, change, other, name="other")
    assert one(exported, 0, folder)
    first = features_path(folder, one.identity).read_bytes()
    assert two(exported, 0, folder)
    assert features_path(folder, one.identity).read_bytes() == first
    assert features_path(folder, two.identity).is_file()
    assert {path.parent.name for path in folder.parent.glob("pictures/*/images-3.npz")} == {one.identity, two.identity}


def test_a_full_disk_or_a_fault_costs_the_pictures_alone(exported, change, monkeypatch, caplog):
    folder, evaluate = step_folder(exported, 0), evaluator(exported, change)

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "gramlab"):
        patch.setattr(pictured, "save", full)
        assert evaluate(exported, 0, folder)
    assert "no pictures of its features are kept ([Errno 28] No space left on device)" in caplog.text
    assert evaluate.mark(folder).is_file()
    assert evaluate(exported, 0, folder) == {}


def test_damaged_images_are_written_anew(exported, change):
    folder, evaluate = step_folder(exported, 0), evaluator(exported, change)
    evaluate(exported, 0, folder)
    path = images_folder(folder.parent, evaluate.identity) / "images-3.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    evaluate.mark(folder).unlink()
    evaluator(exported, change)(exported, 0, folder)
    assert path.read_bytes() == whole


def test_all_sets_give_as_many_images_those_whose_pixels_are_predicted_first():
    val, test = (open_set("scenes", split=split, size=32, count=n) for split, n in (("val", 4), ("test", 9)))
    tasks = {
        "k": TaskSpec(protocol_of("knn"), test, val),
        "s": TaskSpec(protocol_of("segmentation"), val, test),
        "d": TaskSpec(protocol_of("depth"), val, test),
    }
    found = chosen(tasks, 5)
    assert [(one.name, [*one.images.values()]) for one in found] == [("scenes/test", [0, 3, 6]), ("scenes/val", [0, 2])]
    assert Images(tasks, 5).watched == {"s": "segmentation", "d": "depth"}
    assert [len(one.images) for one in chosen(tasks, 1)] == [1]
    assert chosen(tasks, 0) == []
    assert sum(len(one.images) for one in chosen(tasks, 256)) == 13


def test_the_plan_says_what_pictures_take(exported, change):
    line = evaluator(exported, change).pictures.planned([exported])
    evaluations = len(exported.evaluations)
    each = 3 * (16 * 32 * 2 + 32 * 32 * 3)
    assert f"3 of b/test at each evaluation, at most {size_words(each)} each" in line
    total = evaluations * each + 3 * 32 * 32 * 6
    assert f"{size_words(total)} in all" in line
    assert evaluator(exported, change, {"evals.pictures": 0}).pictures.planned([exported]) == ""
