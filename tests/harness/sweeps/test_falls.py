"""Sweeps for settings in which a measure falls from its own peak, or in which it does not."""

import json
import math
from pathlib import Path

import numpy as np
import optuna
import pytest

from evals.results.falls import fall_over_images
from evals.results.outcomes import load_outcomes
from evals.results.table import Row
from harness.sweep import main
from harness.sweeps.falls import fallen

SPACE = {"optimizer.lr": {"low": 1e-4, "high": 1e-1, "log": True}}
LOSES_ALL = {"optimizer.lr": {"choices": [30.0, 40.0]}}
ROOMS = {"size": 32, "split": "val", "name": "rooms"}
EVALS = {
    "sets": {"kept": {**ROOMS, "count": 24}, "asked": {**ROOMS, "count": 8, "split": "test"}},
    "tasks": {"segmentation": {"protocol": "segmentation", "train": "kept", "test": "asked"}},
}
SEEN = {**EVALS, "sets": {**EVALS["sets"], "asked": {**EVALS["sets"]["kept"], "count": 8}}}
FALLS = ["maximize miou.fall", "health.locality.fall", "knn.top1"]


def way(folder, arm, seed, metric, *, since=2):
    """The values of a metric by step in the table, from the trunk's end on."""
    rows = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    own = [row for row in rows if (row["arm"] in (arm, "trunk"), row["seed"], row["metric"]) == (True, seed, metric)]
    return {row["step"]: row["value"] for row in sorted(own, key=lambda row: row["step"]) if row["step"] >= since}


def study(folder):
    journal = optuna.storages.journal.JournalFileBackend(str(folder / "study.journal"))
    return optuna.load_study(study_name=folder.name, storage=optuna.storages.JournalStorage(journal))


@pytest.mark.slow
def test_a_search_for_degradation_maximises_falls_that_are_those_of_the_table_also_on_fresh_seeds(
    write_sweep, record, tmp_path, capsys
):
    path = write_sweep({"seeds": [0, 1], "steps": 8}, objectives=FALLS, trials=2, space=SPACE)
    assert main([str(path)]) == 0
    assert "miou.fall (higher is sought), health.locality.fall (lower is better), knn.top1 (higher is better)\n" \
           "  a fall is from the best of a trial's evaluations to the last" in capsys.readouterr().out  # fmt: skip
    folder = tmp_path / "runs" / "tiny"
    found = study(folder)
    assert [one.name for one in found.directions] == ["MAXIMIZE", "MINIMIZE", "MAXIMIZE"]
    assert main([str(path), "--confirm", "1"]) == 0
    told = {arm: (folder, values) for arm, values in record()["references"].items()}
    told |= {trial["arm"]: (folder, trial["values"]) for trial in record()["trials"]}
    fresh = record()["confirmed"]["values"]
    told |= {f"{arm} again": (folder.with_name("tiny-confirm"), values) for arm, values in fresh.items()}
    assert len(told) == 3 + len(record()["front"]) + 1
    falls = []
    for arm, (where, values) in told.items():
        for name, metric in (("miou.fall", "miou"), ("health.locality.fall", "locality")):
            for seed, value, *_ in values[name]:
                known = way(where, arm.removesuffix(" again"), seed, metric)
                assert [*known] == [2, 4, 6, 8]  # the fork, and what follows it
                lost = max(known.values()) - known[8]
                assert value == pytest.approx(lost / max(known.values()) if metric == "miou" else lost, abs=1e-12)
                falls.append(value)
    assert {value > 0 for value in falls} == {True, False}
    for trial, one in zip(found.trials, record()["trials"], strict=True):
        assert trial.values == pytest.approx([np.mean([v for _, v, *_ in one["values"][n]]) for n in one["values"]])


@pytest.mark.slow
@pytest.mark.parametrize(("trunk", "first"), [(2, 2), (0, 0)], ids=["fork", "step-0"])
def test_what_a_trial_begins_with_counts_and_the_interval_is_that_of_the_best_and_the_last(
    write_sweep, record, tmp_path, trunk, first
):
    """A rate at which features are lost: what it began with is the best that it ever had.

    Judged on images that the head was fitted to: on others, of which it knows nothing, the processor decides.
    """
    sections = {"trunk": {"steps": trunk}, "arms": {}, "evals": {"every": 100, **SEEN}}
    path = write_sweep(sections, objectives=["segmentation.miou.fall"], trials=1, space=LOSES_ALL)
    assert main([str(path)]) == 0
    folder = tmp_path / "runs" / "tiny"
    ((_, value, low, high),) = record()["trials"][0]["values"]["segmentation.miou.fall"]
    known = way(folder, "trial-0000", 0, "miou", since=first)
    assert [*known] == [first, 6]
    assert value == pytest.approx(1 - known[6] / known[first])
    assert value > 0
    sides = {}
    for step in known:
        (file,) = (tmp_path / "runs").glob(f".segments/*/step_{step:06d}/outcomes/*/segmentation-*.npz")
        sides[step] = load_outcomes(file)
    assert (value, low, high) == pytest.approx(tuple(fall_over_images("miou", sides[first], sides[6])))


@pytest.mark.slow
def test_a_fall_is_not_what_the_pruner_sees_on_the_way(write_sweep, tmp_path):
    pruner = {"name": "MedianPruner", "args": {"n_startup_trials": 5}, "by": "miou"}
    sections = {"arms": {}, "evals": {"every": 2, **EVALS}}
    assert main([str(write_sweep(sections, objectives=["miou.fall"], pruner=pruner, trials=1))]) == 0
    (trial,) = study(tmp_path / "runs" / "tiny").trials
    assert trial.intermediate_values == {}
    (shown,) = (value for key, value in trial.user_attrs.items() if key.startswith("shown/"))
    assert [*shown] == ["4", "6"]


@pytest.mark.slow
def test_a_study_that_searches_the_other_way_is_another_one(write_sweep, tmp_path, capsys):
    sections = {"arms": {}, "evals": {"every": 100, **EVALS}}
    assert main([str(write_sweep(sections, objectives=["miou.fall"], trials=1))]) == 0
    capsys.readouterr()
    assert main([str(write_sweep(sections, objectives=["maximize miou.fall"], trials=1))]) == 2
    assert "sweep.objectives was ['miou.fall'], is ['maximize miou.fall']" in capsys.readouterr().err


def seen(*values, metric="miou"):
    place = {"run": "", "arm": "", "seed": 0, "split": "test", "dataset": "rooms", "data": "", "images": 8, "size": 32}
    judged = {"eval": "segmentation", "protocol": "quick", "protocol_hash": "0", "metric": metric}
    rows = [Row(**place, **judged, step=n, value=value, low=0, high=1) for n, value in enumerate(values)]
    return [(row, Path("nowhere")) for row in rows]


@pytest.mark.parametrize(
    ("values", "found"),
    [((0.2, 0.4, 0.3), 0.25), ((0.2, 0.4), 0), ((0.4,), 0), ((0.2, math.nan, 0.1), math.nan), ((), math.nan)],
)
def test_a_fall_without_outcomes_has_a_value_and_no_interval(values, found):
    value, *ends = fallen(seen(*values))
    assert value == pytest.approx(found, nan_ok=True)
    assert all(map(math.isnan, ends))
