"""Objectives by name: short forms, directions, and what no task yields."""

import math

import pytest

from common.errors import BadInput
from common.schema import filled
from harness.config import load
from harness.evaluate import open_tasks
from harness.measures import measures
from harness.sweep_settings import Sweep
from harness.sweeps.objectives import mean, objectives, pruned_by

ROOMS = {"size": 32, "split": "val", "name": "rooms"}
SETS = {"kept": {**ROOMS, "count": 24}, "asked": {**ROOMS, "count": 8, "split": "test"}}
TASKS = {
    name: {"protocol": name, "train": "kept", "test": "asked"} for name in ("knn", "linear", "segmentation", "depth")
}


@pytest.fixture(scope="module")
def tasks(tiny_text, tmp_path_factory):
    place = tmp_path_factory.mktemp("tasks")
    path = place / "tiny.yaml"
    health = {"health": {"protocol": "health", "test": "asked"}}
    path.write_text(tiny_text(place, evals={"sets": SETS, "tasks": TASKS | health}))
    return open_tasks(load(path))


def asked(tasks, *names, **pruner):
    sweep = filled(Sweep, {"objectives": list(names), "pruner": pruner}, where="a sweep")
    found = objectives(sweep, tasks)
    return found, pruned_by(sweep, tasks, found)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("knn/rooms/top1", ("knn", "rooms", "test", "top1")),
        ("knn.top1", ("knn", "rooms", "test", "top1")),
        ("knn.rooms.top1", ("knn", "rooms", "test", "top1")),
        ("miou", ("segmentation", "rooms", "test", "miou")),
        ("rooms.rmse", ("depth", "rooms", "test", "rmse")),
        ("health.rankme", ("health", "rooms", "test", "rankme")),
    ],
)
def test_a_measure_is_found_by_its_whole_name_and_by_short_forms(tasks, name, column):
    (found,), _ = asked(tasks, name)
    assert found.name == name
    assert found.column[:4] == column


def test_the_direction_follows_from_the_metric(tasks):
    found, _ = asked(tasks, "miou", "rmse", "hours")
    assert [one.direction for one in found] == ["maximize", "minimize", "minimize"]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "sweep.objectives is empty: want at least one of knn/rooms/top1, "),
        (["knn.top2"], "sweep.objectives: no task yields 'knn.top2'; did you mean 'knn.top1'?"),
        (["top1"], "sweep.objectives: top1 may be knn/rooms/top1 or linear/rooms/top1: want one of them"),
        (["retrieval.miou"], "sweep.objectives: no task yields 'retrieval.miou'"),
        (["miou", "segmentation.miou"], "sweep.objectives: miou and segmentation.miou are one measure: want it once"),
    ],
)
def test_what_no_task_yields_is_refused_with_the_nearest(tasks, names, said):
    with pytest.raises(BadInput) as error:
        asked(tasks, *names)
    assert str(error.value).startswith(said)


def test_an_objective_given_twice_is_refused(tasks):
    with pytest.raises(BadInput, match="want each once"):
        asked(tasks, "miou", "miou")


def test_without_tasks_only_hours_are_left():
    with pytest.raises(BadInput, match=r"no task yields 'miou'; want one of none: add evals\.tasks"):
        asked({}, "miou")
    assert asked({}, "hours")[0][0].name == "hours"


def test_nothing_is_pruned_by_default(tasks):
    assert asked(tasks, "miou")[1] is None


def test_the_pruner_sees_the_first_objective_that_is_evaluated_unless_told_otherwise(tasks):
    first, health = (
        asked(tasks, "hours", "miou", name="MedianPruner", **by)[1] for by in ({}, {"by": "health.rankme"})
    )
    assert first is not None
    assert health is not None
    assert (first.name, health.name) == ("miou", "health.rankme")


def test_pruning_by_hours_alone_is_refused(tasks):
    with pytest.raises(BadInput, match=r"sweep\.pruner\.by: want a measure to prune by"):
        asked(tasks, "hours", name="MedianPruner")


def test_every_measure_of_the_tasks_has_its_key(tasks):
    found = measures(tasks)
    assert {"knn/rooms/top1", "linear/rooms/top1", "segmentation/rooms/miou", "depth/rooms/rmse"} <= set(found)
    assert all(key == "/".join((one.column[0], one.column[1], one.column[3])) for key, (_, one) in found.items())


@pytest.mark.parametrize(
    ("values", "found"),
    [([1.0, 2.0], 1.5), ([1.0], math.nan), ([], math.nan), ([1.0, math.nan], math.nan), ([math.inf, 1.0], math.nan)],
)
def test_a_mean_is_one_of_every_seed_or_none(values, found):
    assert mean(values, count=2) == pytest.approx(found, nan_ok=True)


@pytest.mark.parametrize(
    ("name", "label", "unit", "share"),
    [
        ("segmentation.miou.fall", "fall from its best: mIoU, segmentation on rooms", "of best", True),
        ("depth/rooms/rmse.fall", "rise from its best: depth RMSE, depth on rooms", "of best", True),
        ("locality.fall", "fall from its best: locality, health on rooms", "", False),
        ("norm_outliers.fall", "rise from its best: patch-norm outliers, health on rooms", "", True),
    ],
)
def test_a_fall_is_a_share_of_the_best_value_where_the_metric_has_a_zero_for_that(tasks, name, label, unit, share):
    (found,), _ = asked(tasks, name)
    assert (found.name, found.label, found.unit, found.share, found.fall) == (name, label, unit, share, True)
    assert found.column == asked(tasks, name.removesuffix(".fall"))[0][0].column


def test_the_less_a_measure_falls_the_better_and_a_word_turns_any_objective_round(tasks):
    found, _ = asked(
        tasks, "miou.fall", "maximize rmse.fall", "minimize knn.top1", "maximize hours", "maximize pixel_accuracy"
    )
    assert [(one.name, one.direction) for one in found] == [
        ("miou.fall", "minimize"), ("rmse.fall", "maximize"), ("knn.top1", "minimize"), ("hours", "maximize"),
        ("pixel_accuracy", "maximize"),
    ]  # fmt: skip
    assert [one.words for one in found] == [
        "miou.fall (lower is better)", "rmse.fall (higher is sought)", "knn.top1 (lower is sought)",
        "hours (higher is sought)", "pixel_accuracy (higher is better)",
    ]  # fmt: skip


def test_a_measure_and_its_fall_are_two_objectives(tasks):
    assert len(asked(tasks, "miou", "miou.fall")[0]) == 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["miou.fall", "maximize rooms.miou.fall"], "sweep.objectives: miou.fall and maximize rooms.miou.fall are one"),
        (["miou", "minimize miou"], "sweep.objectives: miou and minimize miou are one measure"),
        (["maximise miou"], "sweep.objectives: maximise miou: did you mean 'maximize'?"),
        (["Minimize miou"], "sweep.objectives: Minimize miou: did you mean 'minimize'?"),
        (["lower miou"], "sweep.objectives: no task yields 'lower miou'"),
        (["segmentation.mio.fall"], "sweep.objectives: no task yields 'segmentation.mio'; did you mean"),
        (["miou.drop"], "sweep.objectives: no task yields 'miou.drop'"),
        (["hours.fall"], "sweep.objectives: no task yields 'hours'"),
        (["gram_drift.fall"], "sweep.objectives: no task yields 'gram_drift'"),
        ([".fall"], "sweep.objectives: no task yields ''"),
        (["maximize "], "sweep.objectives: no task yields 'maximize '"),
    ],
)  # fmt: skip
def test_a_fall_of_nothing_and_a_direction_that_is_none_are_refused(tasks, names, said):
    with pytest.raises(BadInput) as error:
        asked(tasks, *names)
    assert str(error.value).startswith(said)


def test_nothing_is_pruned_by_a_fall_which_half_way_may_not_have_begun(tasks):
    median = {"name": "MedianPruner"}
    by = asked(tasks, "miou.fall", "minimize miou", **median)[1]
    assert by is not None
    assert (by.name, by.direction) == ("miou", "minimize")
    with pytest.raises(BadInput, match=r"^sweep\.pruner\.by: miou\.fall is known at the end alone: want miou$"):
        asked(tasks, "miou", **median, by="miou.fall")
    with pytest.raises(BadInput, match=r"by: want a measure to prune by, since miou\.fall and hours can be told"):
        asked(tasks, "miou.fall", "hours", **median)
    with pytest.raises(BadInput, match=r"by: hours is known at the end alone: want a measure of the evaluations"):
        asked(tasks, "miou", **median, by="hours")
