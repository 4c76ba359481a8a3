"""Which part of a segment's curve is an arm's own."""

import numpy as np
import pytest

from common.records import Status
from reports.parts import Line, Part, ended, own, parts


@pytest.fixture
def curve():
    """Logged every ten steps, for whoever went on to step 40."""
    steps = np.array([10.0, 20.0, 30.0, 40.0])
    return {"step": Line(steps, steps), "seconds": Line(steps, steps / 2), "loss": Line(steps, 50 - steps)}


def test_a_curve_that_goes_on_for_others_ends_where_the_arm_does_also_between_logged_steps(curve):
    found = own(curve, Part(10, 34, "trunk"))
    assert {name: line.steps.tolist() for name, line in found.items()} == {name: [20, 30, 34] for name in curve}
    assert found["loss"].values.tolist() == [30, 20, 16]
    assert found["seconds"].values.tolist() == [5, 10, 12]  # from the fork on
    assert found["step"].values[-1] == 34


def test_a_fork_between_logged_steps_takes_its_share_of_the_seconds(curve):
    """Of 0.5 s a step up to 30 and 2 s a step from there, whoever begins at 34 has none of the first four."""
    slower = curve | {"seconds": Line(curve["step"].steps, np.array([5.0, 10.0, 15.0, 35.0]))}
    assert own(slower, Part(34, 40, "trunk"))["seconds"].values.tolist() == [12]
    before = own(slower, Part(10, 34, "trunk"))["seconds"]
    assert (before.steps[-1], before.values[-1]) == (34, 18)  # 5 + 5 + 8, and 12 come after it


def test_a_part_that_ends_before_the_first_logged_step_has_what_was_used_by_then(curve):
    curve |= {"images": Line(curve["step"].steps, 8 * curve["step"].steps)}
    found = own(curve, Part(2, 6, None, "aa", root=0))
    assert {name: (*line.steps, *line.values) for name, line in found.items()} == {
        "step": (6, 6), "images": (6, 48), "seconds": (6, 2)
    }  # fmt: skip
    assert own(curve, Part(6, 20, "trunk", "aa", root=0))["seconds"].values.tolist() == [2, 7]


def test_a_segment_begins_where_the_first_of_its_lanes_does():
    job = {"segment": "aa", "start": 0, "stop": 10, "parent": None}
    later = {"plain-s0": job | {"start": 10, "parent": "trunk-s0"}, "late-s0": job | {"segment": "bb", "start": 15}}
    found = parts({"jobs": {"trunk-s0": job} | later})
    assert {lane: part.root for (lane, _), part in found.items()} == {"trunk": 0, "plain": 0, "late": 15}


def test_time_and_speed_are_those_of_the_lanes_own_steps(curve):
    """The segment took 100 s for its first ten steps, since the machine had other work, and 4 s a step after them."""
    seconds = Line(curve["step"].steps, np.array([100.0, 140.0, 180.0, 220.0]))
    curve |= {"images": Line(curve["step"].steps, 8 * curve["step"].steps), "seconds": seconds}
    status = Status(state="running", step=40, steps=60, seconds=220, images_per_second=1.45)
    for part, steps in ((Part(10, 60, "trunk", "aa", 0), 30), (Part(10, 30, "trunk", "aa", 0), 20)):
        found = ended(status, part, own(curve, part))
        assert (found.seconds, found.images_per_second) == pytest.approx((4 * steps, 2))
    trunk = Part(0, 10, None, "aa", 0)
    assert ended(status, trunk, own(curve, trunk)).images_per_second == 0.8
    assert ended(status, trunk, None).images_per_second is None


@pytest.mark.parametrize("stop", [30, 40, 50, None])
def test_nothing_is_added_where_the_last_step_was_logged_or_is_still_to_come(curve, stop):
    found = own(curve, Part(10, stop, "trunk"))
    assert found["step"].steps.tolist() == [step for step in (20, 30, 40) if stop is None or step <= stop]


def test_without_a_part_the_curve_is_as_it_is(curve):
    assert own(curve, None) is curve
