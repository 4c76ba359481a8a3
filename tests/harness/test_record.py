"""`experiment.json`: what was asked, kept when more arms and seeds join."""

import json

import pytest

from evals.datasets.scenes import Scenes
from evals.suite import TaskSpec
from harness.graph import jobs
from harness.record import notes, write_record
from harness.settings import Set, SetKind

ARMS = {
    "plain": {},
    "anchored": {"gram.weight": 2.0, "gram.start_step": 4, "gram.update_every": 3},
    "mixed": {"data.homogeneous_share": 0.25},
}


@pytest.fixture
def recorded(tiny, change, tmp_path):
    """Writes the record of the tiny experiment, changed, and reads it back."""

    def of(values=None, tasks=None):
        experiment = change(tiny, {"arms": ARMS, "steps": 9, "trunk.steps": 4, **(values or {})})
        found = jobs(experiment, fingerprint=lambda data: "24 rooms")
        write_record(tmp_path, experiment, found, tasks or {}, {"python": "3.11"})
        return json.loads((tmp_path / "experiment.json").read_text())

    return of


def test_events_are_the_fork_the_start_and_the_renewals(recorded):
    found = recorded()["events"]
    assert found["plain"] == [{"step": 4, "kind": "fork"}]
    assert [(event["step"], event["kind"]) for event in found["anchored"]] == [
        (4, "fork"),
        (4, "gram_start"),
        (7, "gram_update"),
    ]
    assert "trunk" not in found


def test_arms_have_their_dotted_overrides_and_a_phrase(recorded):
    arms = recorded({"arms": {**ARMS, "nested": {"gram": {"weight": 1.0, "start_step": 5}}}})["arms"]
    assert arms["nested"]["overrides"] == {"gram.weight": 1.0, "gram.start_step": 5}
    assert arms["plain"]["summary"] == "Gram off"
    assert "renewed at 7" in arms["anchored"]["summary"]
    assert "25% of batches from one component" in arms["mixed"]["summary"]


def test_the_first_arm_is_the_baseline_unless_one_is_named(recorded):
    assert recorded()["baseline"] == "plain"
    assert recorded({"baseline": "mixed"})["baseline"] == "mixed"


def test_arms_seeds_and_length_that_the_folder_knew_stay(recorded):
    recorded({"seeds": [0, 1], "steps": 12})
    again = recorded({"arms": {"late": {}}, "seeds": [2]})
    assert list(again["arms"]) == ["plain", "anchored", "mixed", "late"]
    assert set(again["events"]) == set(again["arms"])
    assert (again["seeds"], again["steps"]) == ([0, 1, 2], 12)


def test_chance_is_one_in_as_many_classes_as_the_set_has(recorded):
    rooms = Scenes("test", size=8, count=2)
    found = recorded(tasks={"knn": TaskSpec("knn", rooms, rooms)})["chance"]
    assert found == {"top1": pytest.approx(1 / len(rooms.classes))}


def test_the_configuration_is_the_whole_experiment(recorded):
    config = recorded()["config"]
    assert config["gram"]["teacher"] == "snapshot"
    assert config["data"]["sources"]["scenes"]["kind"] == "scenes"


def test_one_seed_and_procedural_images_are_warned_of(tiny, change):
    assert any("One seed" in note for note in notes(tiny))
    assert any("Procedural" in note for note in notes(tiny))
    assert notes(change(tiny, {"seeds": [0, 1], "data.sources": {"a": Set(kind=SetKind.folder, root="x")}})) == []
