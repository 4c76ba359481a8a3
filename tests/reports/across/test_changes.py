"""Differences within and between experiments, against intervals that are computed by hand."""

import json
import math

import numpy as np
import pytest
from scipy.stats import t

from reports.across.changes import between, of_arm, pairs, within
from reports.across.sides import shared, sides
from reports.compared import compare

SMALL = {"steps": 40, "trunk_steps": 20, "every": 10}
ARMS = {"plain": {}, "anchored": {"gram.weight": 2.0}}


def shifted(folder, **by_arm):
    """The folder, once each arm's values are moved by so much and a little by the seed."""
    path = folder / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        row["value"] += by_arm.get(row["arm"], 0.0) * (1 + 0.1 * row["seed"] ** 2)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def last(folder, arm, metric="miou"):
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    rows = [row for row in rows if (row["arm"], row["metric"], row["step"]) == (arm, metric, 40)]
    return np.array([row["value"] for row in sorted(rows, key=lambda row: row["seed"])])


def change(every, arm, metric="miou"):
    found = between(every, shared(every))
    (one,) = [one for one in found if one.pair.arm == arm and one.measure.column.metric == metric]
    return one


def test_equal_seeds_are_paired(make_run):
    a = make_run(name="a", arms=ARMS, seeds=(0, 1, 2), **SMALL)
    b = shifted(make_run(name="b", arms=ARMS, seeds=(0, 1, 2), **SMALL), plain=0.1)
    one, gains = change(sides([a, b]), "plain"), last(b, "plain") - last(a, "plain")
    half = t.ppf(0.975, 2) * gains.std(ddof=1) / math.sqrt(3)
    assert (one.how, one.seeds, one.other_seeds, one.step) == ("paired", 3, 3, 40)
    assert (one.value, one.low, one.high) == pytest.approx((gains.mean(), gains.mean() - half, gains.mean() + half))
    assert one.excludes_zero


def test_unlike_seeds_are_not_paired(make_run):
    """Welch's interval, by its formula."""
    a = make_run(name="a", arms=ARMS, seeds=(0, 1, 2), **SMALL)
    b = make_run(name="b", arms=ARMS, seeds=(2, 3, 4, 5), **SMALL)
    one, mine, base = change(sides([a, b]), "anchored"), last(b, "anchored"), last(a, "anchored")
    parts = mine.var(ddof=1) / 4, base.var(ddof=1) / 3
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 2)
    half, gain = t.ppf(0.975, freedom) * math.sqrt(sum(parts)), mine.mean() - base.mean()
    assert (one.how, one.seeds, one.other_seeds) == ("unpaired", 4, 3)
    assert (one.value, one.low, one.high) == pytest.approx((gain, gain - half, gain + half))


def test_of_one_seed_no_interval_is_given(make_run):
    a = make_run(name="a", arms=ARMS, seeds=(0, 1, 2), **SMALL)
    b = shifted(make_run(name="b", arms=ARMS, seeds=(0,), **SMALL), plain=5.0)
    one = change(sides([a, b]), "plain")
    assert (one.how, math.isnan(one.low), one.excludes_zero) == ("one seed", True, False)


def test_one_training_under_two_names_tells_of_no_difference(make_run):
    def jobs(names):
        return {f"plain-s{s}": {"segment": f"{names}{s}", "start": 20, "stop": 40, "parent": None} for s in (0, 1)}

    a = make_run(name="a", arms=ARMS, seeds=(0, 1), jobs=jobs("x"), **SMALL)
    b = make_run(name="b", arms=ARMS, seeds=(0, 1), jobs=jobs("x"), **SMALL)
    c = make_run(name="c", arms=ARMS, seeds=(0, 1), jobs=jobs("y"), **SMALL)
    assert (change(sides([a, b]), "plain").how, change(sides([a, c]), "plain").how) == ("same training", "paired")
    assert change(sides([a, b]), "anchored").how == "paired"


def test_experiments_of_unlike_length_meet_at_the_last_step_that_both_have(make_run):
    a = make_run(name="a", arms=ARMS, seeds=(0, 1), **SMALL)
    b = make_run(name="b", arms=ARMS, seeds=(0, 1), **SMALL | {"steps": 80})
    one = change(sides([a, b]), "plain")
    assert (one.step, one.value) == (40, 0.0)
    c = make_run(name="c", arms=ARMS, seeds=(0, 1), steps=75, trunk_steps=45, every=15)
    assert between(sides([a, c]), shared(sides([a, c]))) == []


def test_baselines_of_unlike_names_are_compared_too(make_run):
    a = make_run(name="a", arms=ARMS, **SMALL)
    b = make_run(name="b", arms={"bare": {}, "anchored": {}}, **SMALL)
    assert [pair.title for pair in pairs(sides([a, b]))] == ["bare − plain", "anchored"]
    assert [pair.title for pair in pairs(sides([b, a]))] == ["plain − bare", "anchored"]


def test_within_an_experiment_differences_are_those_of_its_report(make_run):
    a, b = (make_run(name=name, arms=ARMS, seeds=(0, 1), **SMALL) for name in "ab")
    every = sides([a, b])
    found, report = within(every[0], shared(every)), compare(every[0].run)
    for measure in shared(every):
        assert of_arm(found, measure, "anchored") == report[measure.column, "anchored", "steps"]
    assert len(found) == 6
