"""Runs as their checkpoints: what belongs to a run, by which side it is taken, and what counts once."""

import json

import numpy as np

from reports.estimates import Column
from reports.run_folder import read
from reports.tracks import tracks

PLACES = {"miou": "segmentation", "rmse": "depth", "locality": "health", "cls_patch_cosine": "health"}


def _rows(make_row, arm, steps, metric, values, seed=0):
    return [
        make_row(arm=arm, seed=seed, step=step, eval=PLACES[metric], metric=metric, value=value)
        for step, value in zip(steps, values, strict=True)
    ]


def _record(folder, jobs, arms):
    path = folder / "experiment.json"
    jobs = {name: dict(zip(("segment", "start", "stop", "parent"), job, strict=True)) for name, job in jobs.items()}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"jobs": jobs, "arms": {arm: {} for arm in arms}}))


def _of(track, metric):
    found = next(column for column in track.values.columns if column.metric == metric)
    return track.values[found].dropna().to_dict()


def test_a_run_has_the_checkpoints_of_its_trunk_up_to_its_fork_and_no_untrained_one(bare_run, make_row):
    rows = _rows(make_row, "trunk", (0, 100, 200, 300), "miou", (0.05, 0.1, 0.2, 0.9))
    rows += _rows(make_row, "plain", (250, 300), "miou", (0.3, 0.4))
    folder = bare_run(rows)
    _record(folder, {"trunk-s0": ("a", 0, 300, None), "plain-s0": ("b", 200, 300, "trunk-s0")}, ["plain"])
    (track,) = tracks(read(folder))
    assert (track.experiment, track.arm, track.seed, track.fork) == (read(folder).name, "plain", 0, 200)
    assert _of(track, "miou") == {100: 0.1, 200: 0.2, 250: 0.3, 300: 0.4}
    assert 0 in tracks(read(folder), since=0)[0].values.index


def test_every_measure_is_taken_by_its_better_side(bare_run, make_row):
    rows = [row for metric in PLACES for row in _rows(make_row, "plain", (100,), metric, (0.25,))]
    (track,) = tracks(read(bare_run(rows)))
    assert {metric: _of(track, metric)[100] for metric in PLACES} == {
        **{"miou": 0.25, "locality": 0.25},
        **{"rmse": -0.25, "cls_patch_cosine": -0.25},
    }
    assert [column.metric for column in track.columns("dense", "global")] == ["miou", "rmse"]
    assert all(isinstance(column, Column) for column in track.columns("health"))


def test_a_checkpoint_that_lacks_a_measure_has_a_gap_there(bare_run, make_row):
    rows = _rows(make_row, "plain", (100, 200), "miou", (0.1, 0.2)) + _rows(make_row, "plain", (200,), "rmse", (0.7,))
    (track,) = tracks(read(bare_run(rows)))
    assert np.isnan(track.values.to_numpy()).sum() == 1


def test_an_arm_without_checkpoints_of_its_own_and_a_second_name_of_one_training_are_no_runs(bare_run, make_row):
    rows = _rows(make_row, "trunk", (100, 200), "miou", (0.1, 0.2))
    rows += _rows(make_row, "plain", (300,), "miou", (0.3,)) + _rows(make_row, "same", (300,), "miou", (0.3,))
    folder = bare_run(rows)
    arms = ["plain", "same", "waiting"]
    jobs = {f"{arm}-s0": (f"of {arm}", 200, 300, "trunk-s0") for arm in arms}
    jobs["same-s0"] = jobs["plain-s0"]
    _record(folder, {"trunk-s0": ("a", 0, 200, None), **jobs}, arms)
    assert [track.arm for track in tracks(read(folder))] == ["plain"]
