"""Objectives by name: short forms, directions, and what no task yields."""

import math

import pytest

from common.errors import BadInput
from common.schema import filled
from harness.config import load
from harness.evaluate import open_tasks
from harness.sweep_settings import Sweep
from harness.sweeps.objectives import mean, measures, objectives, pruned_by

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
