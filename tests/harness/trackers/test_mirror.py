"""What trackers are told of a run: the whole of each arm, once, whatever fails in between."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.curves import Curves
from harness.run import main
from harness.trackers import mirror as module
from harness.trackers import mirrors, table
from harness.trackers.mirror import Mirror, follow
from harness.trackers.mirrors import mirrored
from harness.trackers.tracker import Run
from harness.workplace import held

STEPS = {"trunk-s0": [0, 2], "plain-s0": [0, 2, 4], "якорь-s0": [0, 2, 4]}  # evaluated
Said = list[tuple[str, str, Any]]  # of which run, by which method, what


def keeper(said: Said, *, broken: tuple[str, ...] = ()) -> Callable[[Run], Any]:
    """A tracker that keeps what it is told; that of these runs fails in each method."""

    class Keeper:
        def __init__(self, run: Run) -> None:
            self.name = run.name
            said.append((run.name, "begun", run))

        def __getattr__(self, method: str) -> Callable[..., None]:
            def told(*what: Any) -> None:
                if self.name in broken:
                    raise RuntimeError(f"no {method}\nand more")
                said.append((self.name, method, what))

            return told

    return Keeper


def methods(said: Said, name: str) -> list[str]:
    return [method for run, method, _ in said if run == name]


def told(said: Said, name: str, method: str) -> list[Any]:
    return [what for run, how, what in said if (run, how) == (name, method)]


def points(said: Said, name: str) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for (batch,) in told(said, name, "scalars"):
        for step, values in batch:
            for key, value in values.items():
                found.setdefault(key, []).append((step, value))
    return found


@pytest.fixture(scope="module")
def said(run, half, tmp_path_factory) -> Said:
    """What a tracker was told of the half run, and once more when it was whole, by another process each."""
    said, place = Said(), tmp_path_factory.mktemp("place")
    for folder in (half, run, run):
        assert [*Mirror(folder, keeper(said), place).look(last=True)] == []
    return said


@pytest.mark.parametrize("name", STEPS)
def test_each_arm_is_told_whole_from_step_0_and_no_step_twice(said, expected, name):
    assert {key: sorted(values) for key, values in points(said, name).items()} == expected(name)


@pytest.mark.parametrize("name", STEPS)
def test_each_evaluated_step_has_one_picture(said, name):
    pictures = told(said, name, "picture")
    assert sorted((key, step) for key, step, _ in pictures) == [("features", step) for step in STEPS[name]]
    shades = np.asarray(pictures[-1][2])
    assert shades.shape == (3 * 128 + 2 * 4, 4 * 128 + 3 * 4, 3)  # image, two similarities, predicted classes
    assert (shades.std((0, 1)) > 10).all()


def test_the_report_has_plan_settings_and_documents_once_in_each_version(said, run):
    assert told(said, "report", "text") == [("plan", (run / "plan.txt").read_text())]
    assert [path.name for (path,) in told(said, "report", "file")] == ["plan.pdf", "report.pdf", "report.html"]
    [(settings,)] = told(said, "report", "settings")
    assert settings["arms"]["якорь"] == {"gram.weight": 2.0}
    assert methods(said, "report")[-1] == "close"


def test_a_run_says_what_it_is_and_goes_on_under_its_id(said, run):
    first, second = told(said, "якорь-s0", "begun")
    assert first.id == second.id
    assert (first.experiment, first.tags["arm"], first.tags["seed"]) == ("ünï", "якорь", "0")
    assert first.tags["segment"] == (run / "якорь-s0").resolve().name
    assert told(said, "якорь-s0", "settings")[0][0]["gram"]["weight"] == 2.0
    assert told(said, "якорь-s0", "close") == [("interrupted",), ("done",)]
    assert len({one.id for name in (*STEPS, "report") for one in told(said, name, "begun")}) == len(STEPS) + 1


def test_what_has_become_another_segment_is_another_run(run, tmp_path):
    said = Said()
    for _ in range(2):
        assert not [*Mirror(run, keeper(said), tmp_path, only=["plain-s0"]).look(last=True)]
        path = tmp_path / "plain-s0" / "told.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "segment": "another"}))
    first, second = told(said, "plain-s0", "begun")
    assert first.id != second.id
    assert {name for name, _, _ in said} == {"plain-s0"}


def test_a_run_that_fails_keeps_no_other_from_being_told_and_is_tried_again(run, tmp_path):
    said, broken = Said(), ["plain-s0"]
    watching = Mirror(run, lambda it: keeper(said, broken=(*broken,))(it), tmp_path)
    assert [str(error) for error in watching.look()] == ["no settings\nand more"]
    assert "scalars" in methods(said, "якорь-s0")
    broken.clear()
    assert [*watching.look(last=True)] == []
    assert methods(said, "plain-s0").count("begun") == 2
    assert [step for step, _ in told(said, "plain-s0", "scalars")[0][0]] == [1, 2]


def test_what_another_process_tells_is_left_to_it(run, tmp_path):
    said, place = Said(), tmp_path / "place"
    with held(place / "plain-s0"):
        assert [*Mirror(run, keeper(said), place).look(last=True)] == []
    assert {name for name, _, _ in said} == {"trunk-s0", "якорь-s0", "report"}


def test_a_run_that_a_killed_process_left_open_is_closed_by_the_next(run, tmp_path):
    said = Said()
    assert [*Mirror(run, keeper(said), tmp_path, only=["plain-s0"]).look(last=True)] == []
    path = tmp_path / "plain-s0" / "told.json"
    path.write_text(path.read_text().replace('"open": false', '"open": true'))
    assert [*Mirror(run, keeper(said), tmp_path).look(last=True)] == []
    assert methods(said, "plain-s0")[-2:] == ["begun", "close"]


def test_a_failure_is_told_once_and_tried_ever_less_often(run, tmp_path, monkeypatch, capsys):
    said, closed, waits = Said(), iter([False, False, True]), list[float]()
    monkeypatch.setattr(module, "is_over", lambda seconds: waits.append(seconds) or next(closed))
    follow(Mirror(run, keeper(said, broken=("plain-s0",)), tmp_path))
    assert capsys.readouterr().out == "no settings\n"
    assert methods(said, "plain-s0") == ["begun"] * 3
    assert waits == [module.EVERY, 2 * module.EVERY, 4 * module.EVERY]


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_what_the_process_of_a_tracker_meets_is_told_in_the_log_once(run, tmp_path, caplog):
    folder = tmp_path / run.name
    shutil.copytree(run, folder, symlinks=True)
    own = mirrors.place_of(folder, "mlflow") / "report"
    own.mkdir(parents=True)
    (own / "told.json").write_text("{")
    with mirrored(folder, ["mlflow"], only=[]):
        pass
    [line] = logged(caplog)
    assert line.startswith(f"mlflow: {own / 'told.json'}")
    assert line.endswith("training goes on, and what is missing is tried again")


def test_trackers_that_cannot_keep_files_are_told_once_and_stop_nothing(tmp_path, caplog):
    for name in ("trackers", "tensorboard"):
        (tmp_path / name).write_text("no folder")
    with mirrored(tmp_path, ["mlflow", "wandb"]):
        curves = Curves(tmp_path, step=0)
        for step in (1, 2):
            curves.add({"step": step, "seconds": 1.0, "loss": 0.5})
        curves.close()
    said = logged(caplog)
    for name, line in zip(("mlflow", "wandb", "TensorBoard"), said, strict=True):
        assert line.startswith(f"{name}: cannot write {tmp_path}/t")
        assert line.endswith("training goes on without it")
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_tracker_that_is_not_installed_is_refused_before_anything_is_written(write_tiny, monkeypatch, capsys):
    monkeypatch.setattr(table, "find_spec", lambda name: None)
    file = write_tiny()
    assert main([str(file), "trackers=[wandb]"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install 'gramlab[wandb]'" in said
    assert not (file.parent / "runs").exists()


def test_the_board_of_an_experiment_has_its_plan_and_settings(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    [plan], [settings] = (board.Tensors(name) for name in ("plan", "settings"))
    shown = plan.tensor_proto.string_val[0].decode()
    assert [line.removeprefix("    ") for line in shown.splitlines()] == (run / "plan.txt").read_text().splitlines()
    assert "    gram.weight: 2.0" in settings.tensor_proto.string_val[0].decode().replace("      ", "  ")
