"""MLflow and Weights & Biases, where they are installed: what they were told, read back from their own files."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.trackers.mirror import Mirror
from harness.trackers.table import tracker

LANES = ("trunk-s0", "plain-s0", "якорь-s0")


@pytest.fixture(scope="module")
def place(run, half, tmp_path_factory) -> Iterator[Any]:
    """Lets a tracker tell the half run and then the whole, as the same command does; gives where its files lie."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_MODE", "WANDB_DIR", "WANDB_PROJECT"):
            patch.delenv(name, raising=False)

        def told(name: str) -> Path:
            pytest.importorskip(name, reason="`make trackers` installs it")
            place = tmp_path_factory.mktemp(name)
            for folder in (half, run):
                assert [*Mirror(folder, tracker(name), place).look(last=True)] == []
            return place

        yield told


@pytest.fixture(scope="module")
def mlflow(place) -> Any:
    """The client of what MLflow keeps, and its runs by their names."""
    path = place("mlflow") / "mlflow.db"
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{path}")
    found = client.search_runs([client.get_experiment_by_name("ünï").experiment_id])
    assert len(found) == len(LANES) + 1, "a job that goes on does so in the same run"
    return client, {one.info.run_name: one for one in found}


# of a query of MLflow's, which SQLAlchemy 2.1 tells of
quiet = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@quiet
def test_mlflow_holds_the_whole_of_each_arm_once(run, mlflow, expected):
    client, runs = mlflow
    for name in LANES:
        one = runs[name]
        told = {
            key: sorted((point.step, point.value) for point in client.get_metric_history(one.info.run_id, key))
            for key in one.data.metrics
        }
        assert told == expected(name)
        assert one.info.status == "FINISHED"
        assert one.data.tags["segment"] == (run / name).resolve().name
        pictures = [file.path for file in client.list_artifacts(one.info.run_id, "images")]
        steps = sorted(int(path.split("+")[2]) for path in pictures if path.endswith(".png"))
        assert steps == sorted({step for step, _ in told["evals/knn/b/top1"]})


@quiet
def test_mlflow_holds_settings_plan_and_report(mlflow):
    client, runs = mlflow
    assert float(runs["якорь-s0"].data.params["gram.weight"]) == 2.0
    report = runs["report"]
    assert report.data.params["optimizer.lr"]
    names = {one.path for one in client.list_artifacts(report.info.run_id)}
    assert names == {"plan.txt", "plan.pdf", "report.pdf", "report.html", "settings.json"}


def records(path: Path) -> Iterator[Any]:
    """The records of a file of an offline run, which is a log as LevelDB has it: parts in blocks of 32 KiB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (rest := 32768 - at % 32768) < 7:
            at += rest
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last of its parts
            yield Record.FromString(whole)
            whole = b""


def kinds(own: list[Any], kind: str) -> list[Any]:
    """What the records of one kind hold."""
    return [getattr(one, kind) for one in own if one.WhichOneof("record_type") == kind]


@pytest.fixture(scope="module")
def wandb(place) -> dict[str, list[Any]]:
    """The records of each run by its name, of all files in which it was gone on with, the first one first."""
    found: dict[str, list[Any]] = {}
    for path in sorted(place("wandb").glob("wandb/offline-run-*/*.wandb")):
        own = [*records(path)]
        found.setdefault(kinds(own, "run")[0].display_name, []).extend(own)
    return found


def test_wandb_holds_the_whole_of_each_arm_once(wandb, expected):
    for name in LANES:
        told: dict[str, list[tuple[int, float]]] = {}
        pictured = []
        for history in kinds(wandb[name], "history"):
            values = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in history.item}
            pictured += [values["step"]] if "features" in values else []
            for key in (key for key in values if key.startswith(("train/", "evals/"))):
                told.setdefault(key, []).append((values["step"], values[key]))
        assert {key: sorted(points) for key, points in told.items()} == expected(name)
        assert sorted(pictured) == sorted({step for step, _ in told["evals/knn/b/top1"]})
        runs = kinds(wandb[name], "run")
        assert {(one.run_group, one.project) for one in runs} == {("ünï", "gramlab")}
        assert len({one.run_id for one in runs}) == 1


def test_wandb_holds_settings_plan_and_report(wandb):
    files = [file.path for one in kinds(wandb["report"], "files") for file in one.files]
    assert {"plan.txt", "plan.pdf", "report.pdf"} <= {*files}
    config = [*kinds(wandb["якорь-s0"], "run"), *kinds(wandb["якорь-s0"], "config")]
    told = {
        item.key or item.nested_key[0]: item.value_json
        for one in config
        for item in (one.config.update if hasattr(one, "config") else one.update)
    }
    assert json.loads(told["gram"])["weight"] == 2.0
