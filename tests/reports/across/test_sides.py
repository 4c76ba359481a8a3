"""Which measures of experiments may be compared, and what is said of the others."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from common.errors import BadInput
from evals.results.table import append
from reports.across.sides import shared, sides, unlike
from reports.run_folder import read


@pytest.fixture
def two(tmp_path, make_row):
    """Writes two experiments of one row each; `changes` are those of the second."""

    def write(**changes):
        for name, own in (("first", {}), ("second", changes)):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            record = {"name": name, "baseline": "plain", "seeds": [0], "arms": {"plain": {}}}
            (folder / "experiment.json").write_text(json.dumps(record))
            (folder / "results.jsonl").unlink(missing_ok=True)
            append(folder / "results.jsonl", [make_row(**{"run": name, "protocol": "knn-quick-v1", **own})])
        return sides([tmp_path / "first", tmp_path / "second"])

    return write


def test_equal_columns_on_equal_files_are_shared(two):
    (measure,) = shared(two())
    assert (measure.column.eval, measure.data) == ("knn", "5cab1e00")
    assert unlike(two()) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"protocol_hash": "bb"}, "protocol knn-quick-v1 #aa and knn-quick-v1 #bb"),
        ({"protocol": "knn-slow-v9"}, "protocol knn-quick-v1 #aa and knn-slow-v9 #aa"),
        ({"dataset": "photos"}, "data set scenes/val and photos/val"),
        ({"split": "test"}, "data set scenes/val and scenes/test"),
        ({"size": 96}, "size 64 px and 96 px"),
        ({"data": "00000000"}, "judged files 5cab1e00 and 00000000"),
        ({"metric": "top5"}, "measured in first, not in second"),
    ],
)
def test_what_is_measured_otherwise_is_refused_with_the_reason(two, change, said):
    with pytest.raises(BadInput, match=said) as caught:
        shared(two(**change))
    assert "\n" not in str(caught.value)


def test_an_unknown_protocol_is_compared_by_its_hash_and_never_without_one(two, tmp_path, make_row):
    append(tmp_path / "results.jsonl", [])
    every = two(protocol="of-a-colleague", protocol_hash="")
    first = replace(every[0].run, rows=tuple(replace(r, protocol="of-a-colleague") for r in every[0].run.rows))
    second = replace(every[1].run, rows=tuple(replace(r, protocol_hash="aa") for r in every[1].run.rows))
    assert len(shared([replace(every[0], run=first), replace(every[1], run=second)])) == 1
    bare = replace(first, rows=tuple(replace(r, protocol_hash="") for r in first.rows))
    with pytest.raises(BadInput, match="nothing tells what protocol of-a-colleague said"):
        shared([replace(every[0], run=bare), every[1]])


def test_files_that_changed_within_an_experiment_are_compared_with_none(two, tmp_path, make_row):
    two()
    append(
        tmp_path / "second" / "results.jsonl", [make_row(run="second", protocol="knn-quick-v1", step=200, data="ff")]
    )
    with pytest.raises(BadInput, match="judged files 5cab1e00 and 5cab1e00 or ff"):
        shared(sides([tmp_path / "first", tmp_path / "second"]))


def test_of_several_experiments_two_are_enough_and_metrics_of_one_evaluation_are_told_together(make_run):
    small = {"steps": 40, "trunk_steps": 20, "every": 10}
    folders = [make_run(name=name, **small) for name in ("a", "b", "c")]
    path = folders[2] / "results.jsonl"
    path.write_text(path.read_text().replace("05ab54c0ffee", "00ab54c0ffee"))  # the protocol of depth
    every = sides(folders)
    assert len(shared(every)) == 6
    assert [sum(measure in side.measures for side in every) for measure in shared(every)].count(2) == 2
    assert [line.partition(":")[0] for line in unlike(every)] == ["Depth RMSE, Depth δ1"] * 2


def test_experiments_of_one_name_are_told_apart_by_their_folders(make_run, tmp_path):
    small = {"steps": 40, "trunk_steps": 20, "every": 10}
    one, other = (make_run(name=f"{place}/demo", **small) for place in ("here", "there"))
    assert [side.name for side in sides([one, other])] == [str(one), str(other)]
    renamed = Path(one).rename(tmp_path / "here" / "mine")
    assert read(renamed).name == "demo"
    assert [side.name for side in sides([renamed, other])] == ["mine", "demo"]


def test_one_experiment_under_two_names_is_refused(make_run, tmp_path):
    folder = make_run(steps=40, trunk_steps=20, every=10)
    (tmp_path / "link").symlink_to(folder)
    for given in ([folder], [folder, tmp_path / "link"]):
        with pytest.raises(BadInput, match=r"one experiment|twice"):
            sides(given)
