"""The settings in which experiments differ."""

import json

from reports.across.settings import differing
from reports.across.sides import sides

SMALL = {"steps": 40, "trunk_steps": 20, "every": 10}
ARMS = {"plain": {}, "anchored": {"gram.weight": 2.0}}


def changed(folder, *path, to):
    """The folder, once a value of its record is replaced, or taken away where it is to be None."""
    record = json.loads((folder / "experiment.json").read_text())
    place = record
    for part in path[:-1]:
        place = place[part]
    if to is None:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    (folder / "experiment.json").write_text(json.dumps(record))
    return folder


def found(*folders):
    return {(one.kind, one.key): one.written for one in differing(sides(folders))}


def test_equal_experiments_differ_in_nothing(make_run):
    assert found(make_run(name="a", arms=ARMS, **SMALL), make_run(name="b", arms=ARMS, **SMALL)) == {}


def test_each_difference_is_told_once_under_its_kind(make_run):
    a, b = (make_run(name=name, arms=ARMS, **SMALL) for name in "ab")
    changed(b, "config", "optimizer", "lr", to=1e-3)
    changed(b, "config", "evals", "every", to=20)
    changed(b, "environment", "torch", to="2.10.0")
    assert found(a, b) == {
        ("training", "optimizer.lr"): ["0.002", "0.001"],
        ("evaluations", "evals.every"): ["40", "20"],
        ("machine and code", "torch"): ["2.9.0", "2.10.0"],
    }


def test_what_a_baseline_sets_for_itself_counts_and_arms_of_one_name_are_held_against_each_other(make_run):
    a = make_run(name="a", arms=ARMS, **SMALL)
    b = make_run(name="b", arms={"plain": {"dino.weight": 0.5}, "anchored": {"gram.weight": 3.0}}, **SMALL)
    assert found(a, b) == {
        ("training", "dino.weight"): ["1", "0.5"],
        ("training", "anchored: gram.weight"): ["2", "3"],
    }


def test_what_an_arm_inherits_from_another_arm_counts(make_run):
    chain = {"plain": {}, "anchored": {"gram.weight": 2.0}, "late": {"from": "anchored"}}
    a = make_run(name="a", arms=chain, **SMALL)
    b = make_run(name="b", arms=chain | {"late": {}}, **SMALL)
    assert found(a, b) == {
        ("training", "late: from"): ["anchored", "–"],
        ("training", "late: gram.weight"): ["2", "0"],
    }


def test_a_group_that_one_experiment_lacks_is_one_line_without_what_is_not_set(make_run):
    a, b = (make_run(name=name, arms=ARMS, **SMALL) for name in "ab")
    changed(b, "config", "data", "sources", to={"photos": {"kind": "folder", "root": "/data", "bits": None}})
    changed(b, "config", "gram", "resolution", to=None)
    told = found(a, b)
    assert told["training", "data.sources.photos"] == ["–", "{kind: folder, root: /data}"]
    assert told["training", "gram.resolution"] == ["1", "–"]
    assert not any(key.startswith("data.sources.photos.") for _, key in told)


def test_arms_seeds_and_steps_are_told_first(make_run):
    a = make_run(name="a", arms=ARMS, seeds=(0, 1), **SMALL)
    b = make_run(name="b", arms=ARMS | {"third": {}}, seeds=(5,), **SMALL | {"steps": 60})
    assert [key for _, key in found(a, b)][:3] == ["arms", "seeds", "steps"]
