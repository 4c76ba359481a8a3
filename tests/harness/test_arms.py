"""Arms of the file: what they fork from, which grids stand for, and every graph that cannot be meant in one line."""

import re

import pytest
import yaml

from common.errors import BadInput
from harness.arms import Arm, expanded, faults, in_order, read
from harness.config import load
from harness.graph import jobs


def test_an_arm_says_what_it_forks_from_and_the_rest_are_overrides():
    own = {"from": "plain", "at": 300, "gram": {"weight": 2.0}, "optimizer.lr": 1e-3}
    assert read(own, trunk=True) == Arm("plain", 300, {"gram.weight": 2.0, "optimizer.lr": 1e-3})
    assert read({}, trunk=True).parent == "trunk"
    assert read({}, trunk=False).parent is None
    assert read({"from": None}, trunk=True).parent is None
    assert read({"inherit": "teacher"}, trunk=True) == Arm("trunk", None, {}, inherit="teacher")
    assert read({"steps": "equal_compute"}, trunk=True) == Arm("trunk", None, {}, equal_compute=True)


def test_parents_come_before_what_forks_from_them():
    arms = {"late": {"from": "mid"}, "mid": {"from": "plain"}, "plain": {}, "other": {}}
    assert in_order(arms) == ["plain", "mid", "late", "other"]


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"a": {"from": "b"}}, ["arms.a.from='b': want one of trunk, a; null begins at step 0"]),
        (
            {"plain": {}, "a": {"from": "plian"}},
            ["arms.a.from='plian': want one of trunk, plain, a; did you mean 'plain'?"],
        ),
        ({"a": {"from": "a"}}, ["arms: a from a is a circle: want one of them to fork from trunk or from null"]),
        (
            {"a": {"from": "c"}, "b": {"from": "a"}, "c": {"from": "b"}, "d": {"from": "a"}},
            ["arms: a from c from b from a is a circle: want one of them to fork from trunk or from null"],
        ),
        ({"a": {"at": "3"}}, ["arms.a.at='3': want a step of the arm that it forks from, 1 or more"]),
        ({"a": {"at": 0}}, ["arms.a.at=0: want a step of the arm that it forks from, 1 or more"]),
        (
            {"a": {"from": None, "at": 3}},
            ["arms.a.at=3: there is nothing to fork from: want from: with an arm or trunk"],
        ),
        ({"a": {"from": "trunk", "at": 3}}, []),
        ({"a": {"inherit": "teacher"}, "b": {"from": "a", "inherit": "all"}}, []),
        ({"a": {"inherit": "techer"}}, ["arms.a.inherit='techer': want one of all, teacher; did you mean 'teacher'?"]),
        (
            {"a": {"inherit": None}},
            ["arms.a.inherit=null: want one of all, teacher; all is what an arm without this key inherits"],
        ),
        (
            {"a": {"from": None, "inherit": "teacher"}},
            [
                "arms.a.inherit='teacher': there is nothing to inherit from: want from: with an arm or trunk, or leave "
                "it out"
            ],
        ),
    ],
)
def test_a_graph_that_cannot_be_meant_is_told(arms, said):
    assert [*faults(arms, trunk=True)] == said


def test_without_a_trunk_there_is_none_to_fork_from():
    (said,) = faults({"a": {"from": "trunk"}}, trunk=False)
    assert said.startswith("arms.a.from='trunk': want one of a; ")
    (said,) = faults({"a": {"inherit": "all"}}, trunk=False)
    assert "nothing to inherit from" in said
    (said,) = faults({"a": {"at": 3}}, trunk=False)
    assert "nothing to fork from" in said


# --- grids


def test_a_grid_stands_for_an_arm_for_each_combination_with_a_readable_name():
    own = {"gram.weight": 2.0, "grid": {"gram.update_every": [None, 250], "optimizer": {"lr": [1e-3, 5e-4]}}}
    assert expanded({"plain": {}, "period": own}, most=4) == {
        "plain": {},
        "period-update_every-null-lr-0.001": {"gram.weight": 2.0, "gram.update_every": None, "optimizer.lr": 1e-3},
        "period-update_every-null-lr-0.0005": {"gram.weight": 2.0, "gram.update_every": None, "optimizer.lr": 5e-4},
        "period-update_every-250-lr-0.001": {"gram.weight": 2.0, "gram.update_every": 250, "optimizer.lr": 1e-3},
        "period-update_every-250-lr-0.0005": {"gram.weight": 2.0, "gram.update_every": 250, "optimizer.lr": 5e-4},
    }


def test_one_key_needs_no_name_and_keys_that_end_alike_their_whole_ones():
    assert list(expanded({"w": {"grid": {"gram.weight": [1, 0.5]}}}, most=9)) == ["w-1", "w-0.5"]
    found = expanded({"w": {"grid": {"gram.weight": [1], "koleo.weight": [0.1]}}}, most=9)
    assert list(found) == ["w-gram.weight-1-koleo.weight-0.1"]


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"grid": [1, 2]}, "arms.a.grid=[1, 2]: want lists of values by their keys"),
        ({"grid": {}}, "arms.a.grid={}: want lists of values by their keys"),
        ({"grid": {"gram.weight": 1}}, "arms.a.grid.gram.weight=1: want a list of one or more values"),
        ({"grid": {"gram.weight": []}}, "arms.a.grid.gram.weight=[]: want a list of one or more values"),
        ({"gram.weight": 1, "grid": {"gram.weight": [1]}}, "arms.a.gram.weight=1: it is in the grid too"),
        ({"grid": {"gram.weight": [1, 1.0]}}, "two values make the arm a-1: want each value once"),
        ({"grid": {"model.name": ["a b"]}}, "'a-a b' would name an arm"),
        ({"grid": {"gram.weight": [1, 2, 3], "x.y": [1, 2, 3]}}, "arms.a.grid makes 9 arms: want at most 8"),
    ],
)
def test_a_grid_that_cannot_be_meant_is_refused(own, said):
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        expanded({"a": own}, most=8)
    assert "\n" not in str(error.value)


def test_a_grid_of_thousands_is_confirmed_by_a_setting(write_tiny):
    path = write_tiny(arms={"a": {"grid": {"optimizer.lr": [i / 1000 for i in range(1, 101)]}}})
    with pytest.raises(BadInput, match="makes 100 arms: want at most 50, or largest_grid=100 to mean it"):
        load(path)
    assert len(load(path, ["largest_grid=100"]).arms) == 100


def test_an_arm_of_a_grid_may_be_chosen_and_be_the_baseline(write_tiny):
    path = write_tiny(arms={"w": {"grid": {"gram.weight": [1.0, 2.0]}}}, baseline="w-1")
    experiment = load(path, arms=["w-1"])
    assert (list(experiment.arms), experiment.baseline) == (["w-1"], "w-1")
    for words in ({"arms": ["w-1"]}, {"overrides": ["arms=[w-1]"]}):
        assert list(load(path, **words).arms) == ["w-1"]


def test_the_name_of_a_grid_chooses_all_of_its_arms(write_tiny):
    path = write_tiny(arms={"plain": {}, "w": {"grid": {"gram.weight": [1.0, 2.0]}}}, baseline="w-2")
    for words in ({"arms": ["w"]}, {"overrides": ["arms=[w]"]}):
        experiment = load(path, **words)
        assert (list(experiment.arms), experiment.baseline) == (["w-1", "w-2"], "w-2")
    assert list(load(path, arms=["w-2", "plain"]).arms) == ["w-2", "plain"]
    with pytest.raises(BadInput, match=r"^arms: 'w-1' is named twice: want each once$"):
        load(path, arms=["w", "w-1"])
    with pytest.raises(BadInput, match=r"no arm 'v'; known: plain, w-1, w-2"):
        load(path, arms=["v"])


def test_what_is_wrong_with_every_arm_of_a_grid_is_told_once(write_tiny):
    arms = {"w": {"gram.wieght": 1.0, "grid": {"gram.update_every": [1, 2, 3, 4]}}, "b": {"from": "w-1"}}
    path = write_tiny(arms={**arms, "other": {"gram.weight": -1}})
    with pytest.raises(BadInput) as error:
        load(path)
    one, other = str(error.value).splitlines()
    assert one == "arms.w-1, arms.w-2, arms.w-3 and 1 more: unknown setting 'gram.wieght'; did you mean gram.weight?"
    assert other.startswith("arms.other: gram.weight=-1: want ")


def test_an_arm_is_chosen_together_with_what_it_forks_or_learns_from(write_tiny):
    small = {"distillation": {"teacher": "plain"}, "model.args": {"embed_dim": 24}}
    path = write_tiny(arms={"plain": {}, "late": {"from": "plain", "at": 3}, "small": small})
    assert list(load(path, arms=["late", "plain"]).arms) == ["late", "plain"]
    with pytest.raises(BadInput, match=r"^arms: late forks from plain: want plain chosen too$"):
        load(path, arms=["late"])
    with pytest.raises(BadInput, match=r"^arms: small learns from plain: want plain chosen too$"):
        load(path, arms=["small"])


def test_a_grid_may_be_changed_on_the_command_line(write_tiny):
    path = write_tiny(arms={"w": {"grid": {"gram.weight": [1.0, 2.0]}}})
    assert {"w-3", "w-4"} <= set(load(path, ["arms.w.grid.gram.weight=[3,4]"]).arms)


# --- in an experiment


@pytest.fixture
def listed(write_tiny):
    """The jobs by arm of the tiny experiment with these arms, a trunk of four steps, and ten in all."""

    def of(arms, **more):
        path = write_tiny(**{"steps": 10, "trunk": {"steps": 4}, **more})
        plain = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**plain, "arms": arms}, sort_keys=False))
        return {job.arm: job for job in jobs(load(path), fingerprint=lambda data: "24 rooms")}

    return of


def test_an_arm_inherits_what_its_parent_changed(listed):
    arms = {"a": {"optimizer.lr": 0.5, "koleo.weight": 0.2}, "b": {"from": "a", "steps": 12, "koleo.weight": 0.3}}
    b = listed(arms)["b"]
    assert (b.settings.optimizer.lr, b.settings.koleo.weight) == (0.5, 0.3)
    assert (b.start, b.stop, b.parent.arm, [job.arm for job in b.path]) == (10, 12, "a", ["trunk", "a", "b"])


def test_gram_begins_where_it_is_switched_on(listed):
    on = {"gram.weight": 2.0}
    found = listed({"anchored": on, "plain": {}, "late": {"from": "plain", "at": 7, **on},
                    "longer": {"from": "anchored", "steps": 12}})  # fmt: skip
    assert [found[arm].settings.gram.start_step for arm in ("anchored", "late", "longer")] == [4, 7, 4]
    assert found["longer"].identity == found["anchored"].identity


def test_an_arm_that_changes_nothing_goes_on_with_its_parents_segment(listed):
    found = listed({"plain": {}, "again": {"from": "plain", "steps": 12}, "other": {"koleo.weight": 0.2}})
    assert found["trunk"].identity == found["plain"].identity == found["again"].identity != found["other"].identity
    assert found["again"].root.arm == "trunk"
    assert found["other"].root.arm == "other"
    assert found["plain"].folder == found["trunk"].folder
    assert found["plain"].view.name == "plain-s0"


def test_each_parent_keeps_what_its_children_begin_with(listed):
    found = listed(
        {
            "plain": {},
            "other": {"koleo.weight": 0.2},
            "late": {"from": "plain", "at": 7, "gram.weight": 2.0},
            "early": {"from": "plain", "at": 8, "gram.weight": 2.0, "gram.start_step": 9, "gram.teacher_step": 2},
        }
    )
    assert (found["trunk"].forks, found["plain"].forks) == ((4,), (7, 8))
    assert (found["trunk"].snapshots, found["plain"].snapshots) == ((2,), ())


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        (
            {"plain": {}, "late": {"from": "plain", "at": 11}},
            "arms.late.at=11: plain trains the steps after 4 up to 10: want",
        ),
        (
            {"plain": {}, "late": {"from": "plain", "at": 4}},
            "arms.late.at=4: plain trains the steps after 4 up to 10: want",
        ),
        ({"late": {"at": 5}}, "arms.late.at=5: trunk trains the steps after 0 up to 4: want"),
        (
            {"plain": {}, "more": {"from": "plain", "gram.weight": 1.0}},
            "arms.more: it forks from plain at step 10 and ends at step 10: want steps: above 10, or at: an earlier "
            "step of plain",
        ),
        ({"a": {"steps": 4}}, "arms.a: it forks from trunk at step 4 and ends at step 4: want steps: above 4, or at:"),
        ({"a": {"steps": 3, "gram.weight": 1.0}}, "arms.a: it forks from trunk at step 4 and ends at step 3: want"),
        ({"a": {"at": 1, "steps": 1}}, "arms.a: it forks from trunk at step 1 and ends at step 1: want steps: above 1"),
        ({"plain": {"steps": "equal_compute"}}, "the baseline plain has it too"),
        (
            {"plain": {}, "b": {"from": "plain", "at": 6, "steps": "equal_compute"}},
            "arms.b.steps=equal_compute: it forks at step 6, but the baseline plain, whose compute it shall have, at "
            "4: want the same fork, or a number of steps",
        ),
        ({"plain": {"from": None, "steps": "same"}}, "arms.plain: steps='same': want a whole number"),
        (
            {"plain": {}, "b": {"from": "plain", "at": 6, "gram.weight": 1.0, "gram.start_step": 5}},
            "arms.b: gram.start_step=5 lies before the fork at step 6, and plain has no Gram loss",
        ),
        (
            {"a": {"gram.weight": 1.0, "gram.start_step": 5}, "b": {"from": "a", "inherit": "teacher", "steps": 12}},
            "arms.b: gram.start_step=5 lies before the fork at step 10, and inherit=teacher begins it anew: start at",
        ),
    ],
)
def test_forks_that_cannot_be_are_refused_in_one_line(listed, arms, said):
    with pytest.raises(BadInput, match=re.escape(said)) as error:
        listed(arms)
    assert "\n" not in str(error.value)


def test_equal_compute_is_the_last_step_that_costs_no_more_than_the_baseline(listed):
    from harness.cost import flops

    found = listed({"plain": {}, "high": {"gram.weight": 1.0, "gram.resolution": 2.0, "steps": "equal_compute"}},
                   steps=44)  # fmt: skip
    plain, high = found["plain"], found["high"]
    most = flops(plain.settings, 4, 44, origin=0)
    assert 4 < high.stop < 44
    assert flops(high.settings, 4, high.stop, origin=0) <= most < flops(high.settings, 4, high.stop + 1, origin=0)


def test_an_arm_ends_with_the_one_that_it_forks_from(listed):
    dear = {"gram.weight": 1.0, "gram.resolution": 2.0, "steps": "equal_compute"}
    found = listed({"plain": {"steps": 44}, "high": dear, "short": {"steps": 8},
                    "a": {"from": "high", "at": 6, "koleo.weight": 0.2}, "b": {"from": "a", "at": 7},
                    "c": {"from": "short", "at": 6}, "d": {"from": "plain", "at": 6}})  # fmt: skip
    assert found["high"].stop not in (10, 44)
    ends = {arm: (job.stop, job.settings.steps) for arm, job in found.items()}
    assert ends["a"] == ends["b"] == ends["high"]
    assert (ends["c"], ends["d"]) == (ends["short"], ends["plain"])


def test_equal_compute_may_go_beyond_the_steps_of_the_experiment(listed):
    arms = {"plain": {"steps": 30}, "same": {"gram.weight": 1.0, "steps": "equal_compute"}}
    found = listed(arms, steps=10, trunk={"steps": 20})
    assert 20 < found["same"].stop < 30
    assert found["same"].settings.gram.start_step == 20


def test_every_arm_may_be_longer_than_the_experiment_says(listed):
    assert listed({"a": {"steps": 12}}, steps=4, trunk={"steps": 8})["a"].stop == 12


def test_another_length_name_or_machine_is_the_same_segment_and_another_fork_is_not(listed):
    on = {"gram.weight": 2.0}
    first = listed({"plain": {}, "a": on})
    longer = listed({"plain": {}, "a": {**on, "steps": 99}, "b": on}, name="other")
    assert first["a"].identity == longer["a"].identity == longer["b"].identity
    moved = listed({"plain": {}, "a": {**on, "at": 3}})
    assert moved["a"].identity != first["a"].identity
    assert moved["trunk"].identity == first["trunk"].identity


@pytest.mark.parametrize("parent", [["plain"], {"plain": 1}, [], {}])
def test_a_list_or_mapping_in_place_of_what_an_arm_forks_from_is_a_fault(parent):
    (told,) = faults({"plain": {}, "other": {"from": parent}}, trunk=True)
    assert told.startswith("arms.other.from=")
