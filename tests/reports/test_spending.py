"""Metrics over what was spent: where each lane stands, and which measures say more than steps do."""

import numpy as np
import pytest

from reports.curves import metric_pages
from reports.estimates import columns
from reports.page import looks, style
from reports.run_folder import read
from reports.spending import spending, telling, unit
from reports.spending_pages import spending_pages


def _run(bare_run, make_row, *, flops=(1e9, 3e9)):
    """Two arms with two seeds, one of which takes three times the operations in a step."""
    rows = [
        make_row(arm=arm, seed=seed, step=step, value=0.5 + step / 1000 + 0.01 * seed)
        for arm in ("plain", "double")
        for seed in (0, 1)
        for step in (0, 100, 200)
    ]
    compute = {arm: [{"from": 0, "flops": one}] for arm, one in zip(("plain", "double"), flops, strict=True)}
    return bare_run(rows, steps=200, compute=compute)


def test_a_lane_stands_where_its_operations_are_the_mean_over_seeds_with_its_interval(bare_run, make_row):
    run = read(_run(bare_run, make_row))
    (column,) = columns(run)
    found = spending(run, column, "double", "flops")
    assert found is not None
    assert found.x == pytest.approx([0, 3e11, 6e11])
    assert found.mean[:, 1] == pytest.approx([0.505, 0.605, 0.705])
    assert np.all(found.mean[:, 0] < found.mean[:, 1])
    for seed, (_, values) in enumerate(found.singles):
        assert values == pytest.approx([0.5 + 0.01 * seed, 0.6 + 0.01 * seed, 0.7 + 0.01 * seed])
    assert spending(run, column, "double", "seconds") is None  # no curve tells


def test_what_every_step_of_every_lane_has_alike_is_left_to_the_steps(bare_run, make_row):
    assert telling(read(_run(bare_run, make_row))) == ["flops"]
    same = read(_run(bare_run, make_row, flops=(1e9, 1e9)))
    assert telling(same) == []
    with style():
        assert spending_pages(same, looks(same.arms, same.baseline)) == []


def test_the_panels_hold_each_lane_over_what_it_spent(bare_run, make_row):
    run = read(_run(bare_run, make_row))
    arm_looks = looks(run.arms, run.baseline)
    with style():
        (page,) = spending_pages(run, arm_looks)
    (axes,) = page.figure.axes
    assert axes.get_xlabel() == "GFLOP"
    means = {line.get_color(): line.get_xdata() for line in axes.lines if line.get_linewidth() == 1.3}
    assert means[arm_looks["plain"].colour] == pytest.approx([0, 100, 200])
    assert means[arm_looks["double"].colour] == pytest.approx([0, 300, 600])
    assert len(axes.collections) == 2  # the bands


@pytest.mark.parametrize(
    ("measure", "most", "expected"),
    [("seconds", 600, "minutes of training"), ("seconds", 9000, "hours of training"), ("images", 100, "images")],
)
def test_axes_are_counted_in_units_that_people_say(measure, most, expected):
    assert unit(measure, most)[1] == expected


def test_events_of_many_arms_leave_the_curves_their_height(bare_run, make_row):
    arms = [f"arm{number}" for number in range(26)]
    rows = [make_row(arm=arm, step=step, value=0.5 + step / 1000) for arm in arms for step in (100, 200)]
    events = {arm: [{"step": number, "kind": "gram_start"}] for number, arm in enumerate(arms)}
    run = read(bare_run(rows, steps=200, baseline="arm0", events=events))
    with style():
        axes = metric_pages(run, looks(run.arms, run.baseline))[0].figure.axes[0]
    low, high = axes.get_ylim()
    drawn = np.concatenate([line.get_ydata() for line in axes.lines if len(line.get_xdata()) == 2])
    assert np.ptp(drawn[drawn > 1]) > 0.25 * (high - low)
