"""What an arm cost is what it took, whatever was asked for."""

import pytest

from reports.effort import effort
from reports.run_folder import read
from tests.reports.conftest import ABLATION


def test_effort_is_read_from_curves_and_status(make_run):
    run = read(make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}}))
    spent = effort(run, "plain")
    assert (spent.step, spent.images, spent.seconds) == (40, 32 * 40, pytest.approx(0.55 * 20))


def test_an_arm_that_was_cut_off_cost_what_it_took_and_one_that_never_began_nothing(make_run):
    compute = {arm: [{"from": 0, "flops": 1e9}] for arm in ABLATION}
    jobs = {f"{arm}-s0": {"segment": arm, "start": 0, "stop": 40, "parent": None} for arm in ABLATION}
    run = read(make_run(steps=40, trunk_steps=0, every=10, died=True, compute=compute, jobs=jobs))
    spent = {arm: effort(run, arm) for arm in ("plain", "double_resolution", "homogeneous")}
    assert {arm: one.flops and round(one.flops) for arm, one in spent.items()} == {
        "plain": 40e9, "double_resolution": spent["double_resolution"].step * 1e9, "homogeneous": None,
    }  # fmt: skip
    assert spent["double_resolution"].step < 40
