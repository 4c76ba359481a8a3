"""What the report begins with: names of measures, as result rows bear them, and what is refused before training."""

import json

import pytest

from common.errors import BadInput
from harness.config import load
from harness.evaluate import open_tasks
from harness.measures import headline
from harness.run import main
from reports.estimates import primary
from reports.run_folder import read

ROOMS = {"size": 32, "split": "val", "name": "rooms"}
SETS = {"kept": {**ROOMS, "count": 24}, "asked": {**ROOMS, "count": 8, "split": "test"}}
TASKS = {
    **{
        name: {"protocol": name, "train": "kept", "test": "asked"}
        for name in ("knn", "linear", "segmentation", "depth")
    },
    "health": {"protocol": "health", "test": "asked"},
}
EVALS = {"every": 2, "sets": SETS, "tasks": TASKS}


@pytest.fixture(scope="module")
def tasks(tiny_text, tmp_path_factory):
    path = tmp_path_factory.mktemp("tasks") / "tiny.yaml"
    path.write_text(tiny_text(path.parent, evals=EVALS))
    return open_tasks(load(path))


def test_a_measure_is_named_by_task_and_metric(tasks):
    dense, whole = headline(["depth.rmse", "linear.top1"], tasks)
    assert dense == ["depth", "rooms", "test", "rmse", tasks["depth"].protocol.hash()]
    assert whole == ["linear", "rooms", "test", "top1", tasks["linear"].protocol.hash()]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["depth.rmes"], "headline: no task yields 'depth.rmes'; did you mean 'depth.rmse'?"),
        (["top1"], "headline: top1 may be knn/rooms/top1 or linear/rooms/top1: want one of them"),
        (["depth.rmse", "miou"], "headline: depth.rmse and miou are both dense: want one dense and one global"),
        (["health.locality"], "headline: health.locality is a sign of health: want a dense measure or a global one"),
    ],
)
def test_what_cannot_be_shown_is_refused(tasks, names, said):
    with pytest.raises(BadInput) as error:
        headline(names, tasks)
    assert str(error.value).startswith(said)


def test_a_wrong_name_ends_before_anything_is_written(write_tiny, tmp_path, capsys):
    path = write_tiny(evals=EVALS, headline=["knn.top2"])
    assert main([str(path)]) == 2
    assert capsys.readouterr().err.startswith("gramlab: headline: no task yields 'knn.top2'")
    assert not (tmp_path / "runs" / "tiny").exists()


@pytest.mark.slow
def test_the_report_begins_with_what_is_named_and_another_name_trains_nothing(write_tiny, tmp_path):
    begins, trained = [], []
    for names in ([], ["depth.rmse", "linear.top1"]):
        path = write_tiny(evals=EVALS, steps=4, arms={"plain": {}}, headline=names)
        assert main([str(path)]) == 0
        run = read(folder := tmp_path / "runs" / "tiny")
        shown = (primary(run, "dense"), primary(run, "global"))
        begins.append([(one.eval, one.metric) for one in shown if one is not None])
        jobs = json.loads((folder / "experiment.json").read_text())["jobs"]
        trained.append({name: job["segment"] for name, job in jobs.items()})
    assert begins == [[("segmentation", "miou"), ("knn", "top1")], [("depth", "rmse"), ("linear", "top1")]]
    assert trained[0] == trained[1]
