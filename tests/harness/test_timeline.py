"""The record of a plan: lanes with what happens in them, and every value along the way of each arm."""

import dataclasses

import pytest

from common.records import Asked
from harness.config import arm_settings, trunk_settings
from harness.graph import jobs
from harness.losses.gram import Gram
from harness.recipe import Optimizer, Schedule
from harness.timeline import PlannedArm, planned_arms, timeline

ARMS = {
    "plain": {},
    "renewed": {"gram.weight": 2.0, "gram.update_every": 2, "gram.teacher_step": 1, "gram.resolution": 2.0},
    "mixed": {"data.homogeneous_share": 0.5, "steps": 6},
}
VALUES = {
    "trunk.steps": 4,
    "steps": 10,
    "arms": ARMS,
    "gram": Gram(start_step=4, warmup_steps=3),
    "optimizer.lr": 1e-3,
    "optimizer.warmup_steps": 2,
    "evals.every": 3,
    "runtime.checkpoint_every": 4,
    "seeds": [5, 6],
}


@pytest.fixture
def planned(tiny, change, tmp_path):
    def of(**more):
        experiment = change(tiny, {**VALUES, "runtime.folder": str(tmp_path), **more})
        found = planned_arms(jobs(experiment, fingerprint=lambda data: "24 rooms"))
        return found, timeline(experiment, found, record={})

    return of


def test_lanes_are_those_of_one_seed_with_all_that_happens(planned):
    _, plan = planned()
    trunk, plain, renewed, mixed = plan.lanes
    assert [(lane.name, lane.parent, lane.start, lane.stop) for lane in plan.lanes] == [
        ("trunk", None, 0, 4),
        ("plain", "trunk", 4, 10),
        ("renewed", "trunk", 4, 10),
        ("mixed", "trunk", 4, 6),
    ]
    assert ([*trunk.evaluations], [*trunk.states], trunk.frozen) == ([0, 3, 4], [4], (1,))
    assert ([*plain.evaluations], [*plain.states]) == ([6, 9, 10], [8])
    assert (plain.gram_start, plain.words) == (None, "Gram off")
    assert (renewed.gram_start, renewed.renewals) == (4, [6, 8])
    assert renewed.words == "Gram: EMA of step 1 ×2, renewed every 2, weight 2 from step 4"
    assert [*mixed.evaluations] == [6]


def test_what_never_changes_is_words_and_what_does_is_a_curve_for_the_arms_that_agree(planned):
    _, plan = planned()
    assert set(plan.changing) == {
        "Learning rate",
        "Weight of Gram",
        "Homogeneous batches (share)",
    }
    assert plan.constants[:3] == ("Weight decay 0.04", "Teacher temperature 0.07", "EMA momentum 0.9")
    assert "Weight of DINO, local crops 0.6667" in plan.constants
    rate = plan.changing["Learning rate"]
    assert [(curve.arms, curve.begin, curve.stop) for curve in rate] == [
        (("plain", "renewed"), 4, 10),
        (("mixed",), 4, 6),
    ]
    assert rate[0].steps == (*range(10),)
    assert rate[0].values == pytest.approx([0, 5e-4, *[1e-3] * 8])
    weights = {curve.arms: curve.values for curve in plan.changing["Weight of Gram"]}
    assert weights["renewed",] == pytest.approx([0, 0, 0, 0, 0, 1, 2, 2, 2, 2])
    assert "Gram teacher's crops (pixels) 64" in plan.constants  # the same wherever there are any


def test_crops_of_gram_teachers_that_differ_are_shown_where_there_are_any(planned):
    _, plan = planned(arms={**ARMS, "small": {"gram.weight": 2.0}})
    sides = {curve.arms: curve.values for curve in plan.changing["Gram teacher's crops (pixels)"]}
    assert sides["renewed",] == (*[None] * 4, *[64] * 6)
    assert sides["small",] == (*[None] * 4, *[32] * 6)
    assert set(sides["plain",]) == {None}


def test_sides_that_are_drawn_are_shown_by_their_mean_and_called_so(planned):
    drawn = [{"global_size": side, "local_size": 16, "gram_size": None, "probability": 0.5} for side in (32, 64)]
    _, plan = planned(arms={"plain": {}, "drawn": {"crops.sizes": drawn}})
    found = {curve.arms: curve.values for curve in plan.changing["Global crops (pixels, mean of what is drawn)"]}
    assert set(found["drawn",]) == {32, 48}  # the trunk draws none


def test_a_rate_of_the_prototypes_is_shown_where_it_is_another(planned):
    _, plan = planned(**{"optimizer.freeze_last_layer_steps": 3})
    (curve, _) = plan.changing["Learning rate of the prototypes"]
    assert curve.values == pytest.approx([0, 0, 0, *[1e-3] * 7])


def test_a_rate_of_the_backbone_is_shown_while_it_is_frozen_and_where_it_is_another(planned):
    _, plan = planned(**{"optimizer.freeze_backbone_steps": 3, "optimizer.backbone_lr": 0.5})
    (curve, _) = plan.changing["Learning rate of the backbone"]
    assert curve.values == pytest.approx([0, 0, 0, *[5e-4] * 7])


def test_a_path_goes_through_the_arm_that_an_arm_forks_from(tiny, change):
    values = {key: value for key, value in VALUES.items() if not key.startswith("optimizer.")}
    falling = {"optimizer": Optimizer(lr=1.0, lr_end=0.0), "schedule": Schedule(shape="linear", end_step=11)}
    experiment = change(tiny, {**values, **falling})
    own = change(arm_settings(experiment, "renewed"), {"schedule": Schedule(shape="linear", counts_from="segment")})
    found = [
        PlannedArm("trunk", trunk_settings(experiment), begin=0, origin=0, start=0, stop=4),
        PlannedArm("plain", arm_settings(experiment, "plain"), begin=0, origin=0, start=4, stop=10, parent="trunk"),
        PlannedArm("late", own, begin=0, origin=7, start=7, stop=12, parent="plain"),
    ]
    plan = timeline(experiment, found, record={})
    plain, late = plan.changing["Learning rate"]
    line = [1 - step / 10 for step in range(11)]
    assert plain.values == pytest.approx(line[:10])
    assert late.values == pytest.approx([*line[:7], 1, 0.75, 0.5, 0.25, 0])
    assert (late.begin, late.stop) == (7, 12)
    assert plan.lanes[2].renewals == [8, 10]  # counted from where the Gram loss began, not from the fork
    assert plan.lanes[2].gram_start == 4


def test_an_arm_of_an_arm_and_one_that_goes_on_with_the_trunks_segment_keep_their_clocks(planned):
    arms = {
        "plain": {},
        "cooled": {"from": "plain", "at": 7, "optimizer.lr_end": 0.0, "schedule.shape": "linear", "steps": 12},
        "anew": {"from": "plain", "at": 7, "schedule.counts_from": "segment"},
    }
    found, plan = planned(arms=arms)
    assert [(one.name, one.origin, one.start, one.stop) for one in found] == [
        ("trunk", 0, 0, 4),
        ("plain", 0, 4, 10),
        ("cooled", 0, 7, 12),
        ("anew", 7, 7, 10),
    ]
    rates = {curve.arms[0]: curve.values for curve in plan.changing["Learning rate"]}
    assert rates["cooled"] == pytest.approx([0, 5e-4, *[1e-3] * 5, *(1e-3 * (1 - share / 9) for share in range(5, 10))])
    assert rates["anew"] == pytest.approx([0, 5e-4, *[1e-3] * 5, 0, 5e-4, 1e-3])


def test_what_forks_from_a_lane_stands_below_it(planned):
    late = {"from": "plain", "at": 7, "koleo.weight": 0.3}
    _, plan = planned(
        arms={"plain": {}, "other": {"koleo.weight": 0.2}, "late": late, "last": {"from": "late", "at": 8}}
    )
    assert [lane.name for lane in plan.lanes] == ["trunk", "plain", "late", "last", "other"]


def test_arms_come_in_the_order_in_which_the_report_names_them(planned, change, tiny):
    experiment = change(tiny, {**VALUES, "baseline": "mixed"})
    found = planned_arms(jobs(experiment, fingerprint=lambda data: "24 rooms"))
    assert timeline(experiment, found, record={}).arms == ("mixed", "plain", "renewed")
    before: Asked = {"arms": {"gone": {}, "renewed": {}}, "baseline": "gone"}
    assert timeline(experiment, found, record=before).arms == ("mixed", "gone", "renewed", "plain")
    assert timeline(change(experiment, {"baseline": None}), found, record=before).arms[:2] == ("gone", "renewed")


def test_a_long_run_is_looked_at_where_it_moves(planned):
    arms = {
        "plain": {},
        "late": {"gram.weight": 2.0, "gram.start_step": 900_000},
        "cooled": {"optimizer.lr_end": 0.0, "schedule.counts_from": "segment", "optimizer.warmup_steps": 0},
    }
    gram = Gram(start_step=600_000, warmup_steps=1000)
    _, plan = planned(**{"trunk.steps": 600_000, "steps": 1_200_000, "arms": arms, "gram": gram})
    weights = {
        curve.arms: dict(zip(curve.steps, curve.values, strict=True)) for curve in plan.changing["Weight of Gram"]
    }
    late = weights["late",]
    assert (late[899_999], late[900_000], late[900_999], late[901_000]) == (0, 0, 2, 2)
    assert sum(0 < value < 2 for value in late.values()) > 15
    rates = {curve.arms: dict(zip(curve.steps, curve.values, strict=True)) for curve in plan.changing["Learning rate"]}
    assert [rates["cooled",][step] for step in (599_999, 600_000, 1_199_999)] == [1e-3, 1e-3, 0]
    assert len(late) < 600


def test_many_arms_are_looked_at_less_closely_each(planned):
    arms = {f"a{number}": {"gram.weight": 1.0 + number, "gram.warmup_steps": 30 + number} for number in range(150)}
    _, plan = planned(**{"trunk.steps": 40, "steps": 4000, "arms": arms, "gram": Gram(start_step=40)})
    (curve, *rest) = plan.changing["Weight of Gram"]
    assert len(rest) == 149
    assert 150 * len(curve.steps) <= 200_000


def test_the_record_is_of_plain_data_alone(planned):
    found, plan = planned()
    text = repr(dataclasses.asdict(plan))
    assert "Experiment" not in text
    assert found[0].settings.trunk.steps == 4


def test_a_relation_other_than_gram_is_called_by_its_name(planned):
    _, plan = planned(arms={"plain": {}, "renewed": {"gram.weight": 2.0, "gram.relation": "cka"}})
    assert "Weight of CKA" in plan.changing
    assert [lane.words for lane in plan.lanes][1:] == ["Gram off", "CKA of EMA of step 4 ×1, weight 2 from step 4"]
