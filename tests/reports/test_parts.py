"""Which part of a segment's curve is an arm's own."""

import numpy as np
import pytest

from reports.parts import Line, Part, own


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


@pytest.mark.parametrize("stop", [30, 40, 50, None])
def test_nothing_is_added_where_the_last_step_was_logged_or_is_still_to_come(curve, stop):
    found = own(curve, Part(10, stop, "trunk"))
    assert found["step"].steps.tolist() == [step for step in (20, 30, 40) if stop is None or step <= stop]


def test_without_a_part_the_curve_is_as_it_is(curve):
    assert own(curve, None) is curve
