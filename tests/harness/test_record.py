"""`experiment.json`: what was asked, kept when more arms and seeds join."""

import json

import pytest

from common.errors import BadInput
from evals.datasets.scenes.scenes import Scenes
from evals.datasets.settings import Set
from evals.one_task import TaskSpec
from evals.tasks.methods import protocol_of
from harness.cost import step_cost
from harness.graph import jobs
from harness.record import chance, notes, write_record

ARMS = {
    "plain": {},
    "anchored": {"gram.weight": 2.0, "gram.start_step": 4, "gram.update_every": 3},
    "mixed": {"data.homogeneous_share": 0.25},
}


@pytest.fixture
def recorded(tiny, change, tmp_path):
    """Writes the record of the tiny experiment, changed, and reads it back."""

    def of(values=None, tasks=None):
        base = {"arms": ARMS, "steps": 9, "trunk.steps": 4, "runtime.folder": str(tmp_path)}
        experiment = change(tiny, {**base, **(values or {})})
        found = jobs(experiment, fingerprint=lambda data: "24 rooms")
        facts = {"trained": {job.arm: ["24 rooms"] for job in found}, "evaluations": "0"}
        write_record(tmp_path, experiment, found, tasks or {}, {"python": "3.11"}, **facts)
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


def test_what_an_arm_was_trained_on_stays_when_others_are_run(recorded):
    assert recorded({"arms": {"first": {}}})["trained"]["first"] == ["24 rooms"]
    assert recorded({"arms": {"second": {}}})["trained"] == {arm: ["24 rooms"] for arm in ("trunk", "first", "second")}


def test_arms_have_their_dotted_overrides_and_a_phrase(recorded):
    arms = recorded({"arms": {**ARMS, "nested": {"gram": {"weight": 1.0, "start_step": 5}}}})["arms"]
    assert arms["nested"]["overrides"] == {"gram.weight": 1.0, "gram.start_step": 5}
    assert arms["plain"]["summary"] == "Gram off"
    assert "renewed every 3" in arms["anchored"]["summary"]
    assert "25% of batches from one component" in arms["mixed"]["summary"]
    told = recorded({"arms": {"plain": {}, "few": {"from": "plain", "steps": 12, "data": {"batch_size": 2}}}})["arms"]
    assert told["few"]["summary"] == "Gram off; data.batch_size=2"


def test_the_first_arm_is_the_baseline_unless_one_is_named(recorded):
    assert recorded()["baseline"] == "plain"
    assert recorded({"baseline": "mixed"})["baseline"] == "mixed"


def test_arms_seeds_and_length_that_the_folder_knew_stay(recorded):
    recorded({"seeds": [0, 1], "steps": 12})
    again = recorded({"arms": {"late": {}}, "seeds": [2]})
    assert list(again["arms"]) == ["plain", "anchored", "mixed", "late"]
    assert set(again["events"]) == set(again["arms"])
    assert (again["seeds"], again["steps"]) == ([0, 1, 2], 12)


def test_what_arms_need_of_others_is_known_when_these_are_run_alone(recorded):
    arms = {"a": {}, "late": {"from": "a", "at": 6, "gram.weight": 2.0, "gram.teacher_step": 5}}
    whole = recorded({"arms": arms})["jobs"]["a-s0"]
    assert (whole["forks"], whole["snapshots"]) == ([6], [5])
    assert recorded({"arms": {"a": {}}})["jobs"]["a-s0"] == whole


def test_chance_is_one_in_as_many_classes_as_the_set_has(recorded):
    rooms = Scenes("test", size=8, count=2)
    found = recorded(tasks={"knn": TaskSpec(protocol_of("knn"), rooms, rooms)})["chance"]
    assert found == {"scenes/top1": pytest.approx(1 / len(rooms.classes))}


def test_each_set_has_a_chance_of_its_own_in_the_metrics_that_count_guesses_at_the_class():
    rooms, fewer = Scenes("test", size=8, count=2), Scenes("test", size=8, count=2)
    fewer.classes, fewer.name = rooms.classes[:3], "fewer"
    one, other = (TaskSpec(protocol_of("logreg"), rooms_, rooms_) for rooms_ in (rooms, fewer))
    assert chance({"a": one, "b": other}) == {
        "scenes/top1": 1 / len(rooms.classes),
        "scenes/top5": 5 / len(rooms.classes),
        "fewer/top1": 1 / 3,
        "fewer/top5": 1.0,
    }
    assert chance({"a": TaskSpec(protocol_of("segmentation"), rooms, rooms)}) == {}


def test_the_operations_of_a_step_stand_from_the_step_on_from_which_they_are_so_many(recorded, tiny, change):
    late = {"gram.weight": 2.0, "gram.start_step": 6}
    found = recorded({"arms": {**ARMS, "late": late, "double": {**late, "gram.resolution": 2.0}}})["compute"]
    assert [entry["from"] for entry in found["trunk"]] == [0]
    assert found["plain"] == [{"from": 4, "flops": found["trunk"][0]["flops"]}]
    assert [entry["from"] for entry in found["anchored"]] == [4]
    assert [entry["from"] for entry in found["late"]] == [4, 6]
    before, after = (entry["flops"] for entry in found["late"])
    assert before == found["plain"][0]["flops"] < after == found["anchored"][0]["flops"] < found["double"][1]["flops"]
    assert after == step_cost(change(tiny, {**late, "steps": 9}), gram=True).flops


def test_the_configuration_is_the_whole_experiment(recorded):
    config = recorded()["config"]
    assert config["gram"]["teacher"] == "snapshot"
    assert config["data"]["sources"]["scenes"]["kind"] == "scenes"


def test_one_seed_and_procedural_images_are_warned_of(tiny, change):
    assert any("One seed" in note for note in notes(tiny, [0]))
    assert any("Procedural" in note for note in notes(tiny, [0]))
    assert notes(change(tiny, {"data.sources": {"a": Set(kind="folder", root="x")}}), [0, 1]) == []


def test_a_second_seed_in_the_folder_takes_the_warning_away(recorded):
    def warned(record):
        return any("One seed" in note for note in record["notes"])

    assert warned(recorded({"seeds": [0]}))
    assert not warned(recorded({"seeds": [1]}))
    assert not warned(recorded({"seeds": [1]}))


def test_a_part_of_the_arms_leaves_the_baseline_as_it_was(recorded):
    recorded()
    assert recorded({"arms": {"mixed": ARMS["mixed"]}})["baseline"] == "plain"
    assert recorded({"arms": {"mixed": ARMS["mixed"]}, "baseline": "mixed"})["baseline"] == "mixed"
    assert recorded()["baseline"] == "mixed"


def test_events_reach_as_far_as_each_arm_was_ever_asked_to_go(recorded, tmp_path):
    recorded({"steps": 12})
    shorter = recorded()
    assert [event["step"] for event in shorter["events"]["anchored"]] == [4, 4, 7, 10]
    assert "renewed every 3" in shorter["arms"]["anchored"]["summary"]
    longer = recorded({"steps": 15})
    assert [event["step"] for event in longer["events"]["anchored"]] == [4, 4, 7, 10, 13]


@pytest.mark.parametrize("damage", ["", '{"name": "ti', "[]"])
def test_a_damaged_record_is_named_and_left_alone(recorded, tmp_path, damage):
    path = tmp_path / "experiment.json"
    path.write_text(damage)
    with pytest.raises(BadInput, match=r"experiment\.json .*remove it") as error:
        recorded()
    assert "\n" not in str(error.value)
    assert path.read_text() == damage


def test_what_lay_in_the_store_before_the_experiment_began_is_kept_as_it_was(recorded, tmp_path):
    first = recorded()["jobs"]
    assert {name: job["found"] for name, job in first.items()} == {name: job["start"] for name, job in first.items()}
    (states := tmp_path / ".segments" / first["plain-s0"]["segment"] / "states").mkdir(parents=True)
    (states / "step_000006.safetensors").write_bytes(b"")
    assert recorded()["jobs"] == first
    (tmp_path / "experiment.json").unlink()
    assert recorded()["jobs"]["plain-s0"]["found"] == 6
