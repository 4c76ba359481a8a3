from __future__ import annotations

from pathlib import Path

import pytest

from common.errors import BadInput
from evals.protocols.reading import FOLDER
from evals.request import Wanted, check_choices, choose_protocol, listing, pairs, parse
from evals.tasks.methods import TASKS, protocol_of, variants


@pytest.fixture(autouse=True)
def without_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRAMLAB_DATA", raising=False)


@pytest.mark.parametrize(
    ("word", "given", "wanted"),
    [
        ("knn", {}, ("knn", None)),
        ("knn", {"knn": "/photos"}, ("knn", "knn")),
        ("knn@photos", {}, ("knn", "photos")),
        ("ade20k", {"ade20k": "/x"}, ("segmentation", "ade20k")),
        ("ade20k", {}, ("segmentation", None)),
        ("nyu", {"ade20k": "/x"}, ("depth", None)),
        ("segmentation@camvid", {"segmentation": "/x"}, ("segmentation", "camvid")),
    ],
)
def test_words_name_a_task_and_its_data(word: str, given: dict[str, str], wanted: tuple[str, str | None]):
    assert parse(word, given) == Wanted(word, *wanted)


def test_an_alias_finds_its_set_below_the_folder_of_gramlab_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("GRAMLAB_DATA", str(tmp_path))
    assert parse("ade20k", {}).data is None
    (tmp_path / "ADEChallengeData2016").mkdir()
    assert parse("ade20k", {}).data == "ade20k"
    assert parse("nyu", {}).data is None


def test_an_unknown_task_names_the_nearest():
    with pytest.raises(BadInput, match=r"got evaluation 'segmentatoin': .*did you mean 'segmentation'"):
        parse("segmentatoin@camvid", {})


def test_pairs_are_split_at_the_first_sign_and_never_given_twice():
    assert pairs(["a=/x=y", "b=z"], "--data", "") == {"a": "/x=y", "b": "z"}
    for entries, said in (
        (["a"], "want NAME=VALUE; do write --data ade20k=/data"),
        (["a=1", "a=2"], "got --data a twice"),
    ):
        with pytest.raises(BadInput, match=said):
            pairs(entries, "--data", "ade20k=/data")


def chosen(word: str, *choices: str) -> str:
    return choose_protocol(parse(word, {}), choices).name


def test_the_quickest_protocol_is_the_usual_one():
    for task in TASKS:
        assert chosen(task) == variants(task)[0]
    assert all(variants(task)[0] == f"{task}-quick" for task in TASKS if task != "logreg")


def test_published_paper_and_standard_are_words_for_one_protocol():
    for word in ("published", "paper", "standard"):
        assert chosen("knn", word) == "knn-paper"
        assert chosen("ade20k", word) == "segmentation-standard"
        assert chosen("health", word) == "health-quick"  # there is one only
        assert chosen("logreg", word) == "logreg-paper"


def test_a_choice_that_names_the_task_wins_over_one_for_all():
    assert chosen("linear", "linear=code", "paper") == "linear-code"
    assert chosen("knn", "linear=code", "paper") == "knn-paper"
    assert chosen("linear@photos", "linear=code", "linear@photos=paper") == "linear-paper"


def test_a_file_is_taken_by_the_tasks_that_it_is_for(tmp_path: Path):
    path = tmp_path / "mine.yaml"
    path.write_text((FOLDER / "knn-quick.yaml").read_text().replace("name: knn-quick", "name: mine"))
    assert chosen("knn", str(path)) == "mine"
    assert chosen("linear", str(path)) == "linear-quick"
    assert chosen("linear", str(path), "paper") == "linear-paper"
    with pytest.raises(BadInput, match="a protocol of knn, for linear"):
        chosen("linear", f"linear={path}")


def test_a_variant_that_a_task_lacks_names_those_that_it_has():
    with pytest.raises(BadInput, match=r"got protocol 'code' for ade20k: want quick, published or a \.yaml file"):
        chosen("ade20k", "code")
    with pytest.raises(BadInput, match="got protocol 'slow' for health: want quick"):
        chosen("health", "slow")


def test_a_choice_for_a_task_that_nobody_asked_for_is_refused():
    wanted = [parse("knn", {})]
    check_choices(["paper", "knn=quick"], wanted)
    with pytest.raises(BadInput, match="got --protocol linear=code: want one of the tasks asked for"):
        check_choices(["linear=code"], wanted)


def test_a_file_for_a_task_that_nobody_asked_for_is_refused():
    path = str(FOLDER / "segmentation-quick.yaml")
    check_choices([path], [parse("knn", {}), parse("segmentation", {})])
    with pytest.raises(BadInput, match="a protocol of segmentation: want the tasks asked for; do add segmentation"):
        check_choices([path], [parse("knn", {})])


def test_the_listing_has_a_line_for_every_protocol():
    lines = listing().splitlines()[1:]
    assert len(lines) == sum(len(variants(task)) for task in TASKS)
    for line in lines:
        assert protocol_of(line.split()[1].rpartition("-v")[0]).hash() in line
