"""Schedules against the recipe's check values; none of them knows how long a run will be, unless it has an end."""

import json
import math
from dataclasses import replace

import pytest
import torch

from common.errors import BadInput
from harness import recipe, settings
from harness.beginning import fresh_state
from harness.graph import jobs
from harness.job_folder import check
from harness.lockstep import scheduled
from harness.losses.gram import Gram
from harness.schedules import at, counts_from_segment, end, linear_warmup, local_weight, transition
from harness.train import train


def test_the_stage_one_learning_rate_warms_up_to_its_scaled_peak():
    stage = settings.Experiment(
        optimizer=recipe.Optimizer(lr=5e-5, lr_scaling="sqrt_wrt_1024", warmup_steps=100_000),
        data=settings.Data(batch_size=4096),
    )
    rates = [at(stage, step).lr for step in (0, 50_000, 100_000, 900_000)]
    assert rates == pytest.approx([0.0, 2.0e-4, 4.0e-4, 4.0e-4])


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1.0), ("sqrt_wrt_1024", 2.0), ("linear_wrt_256", 1.0)])
def test_the_rate_scales_with_the_batch_as_asked(scaling, factor):
    stage = settings.Experiment(
        optimizer=recipe.Optimizer(lr=1e-3, lr_scaling=scaling), data=settings.Data(batch_size=256)
    )
    assert at(stage, 0).lr == pytest.approx(factor * 1e-3)


def test_the_temperature_rises_in_a_line_and_stays():
    stage = settings.Experiment(teacher=recipe.Teacher(temperature_warmup_steps=10))
    assert [at(stage, step).temperature for step in (0, 5, 10, 99)] == pytest.approx([0.04, 0.055, 0.07, 0.07])


def test_a_warm_up_of_no_steps_is_over_at_once():
    assert linear_warmup(0, start=0.0, peak=3.0, steps=0) == 3.0


def test_the_last_layer_waits(tiny, change):
    stage = change(tiny, {"optimizer.freeze_last_layer_steps": 3})
    assert [at(stage, step).last_layer_lr for step in (0, 2, 3)] == [0.0, 0.0, stage.optimizer.lr]


def test_no_schedule_depends_on_how_long_the_run_will_be(tiny, change):
    values = {
        "optimizer.warmup_steps": 7,
        "optimizer.freeze_last_layer_steps": 2,
        "teacher.temperature_warmup_steps": 5,
        "gram": Gram(weight=2.0, start_step=3, warmup_steps=6, update_every=4),
    }
    short, long = (change(tiny, {**values, "steps": steps}) for steps in (10, 1000))
    assert [at(short, step) for step in range(10)] == [at(long, step) for step in range(10)]
    assert {end(stage, stage.steps) for stage in (short, long)} == {None}


def test_the_gram_weight_goes_from_the_end_of_its_warm_up_to_its_own_end(tiny, change):
    gram = Gram(weight=2.0, start_step=4, warmup_steps=3, weight_end=0.5)
    stage = change(tiny, {"gram": gram, "schedule.end_step": 13, "schedule.shape": "linear"})
    found = [at(stage, step, stop=20).factors["gram"] for step in range(16)]
    # half-cosine over three steps, both ends included; then a line over the steps 6 … 12
    assert found == pytest.approx([0, 0, 0, 0, 0, 1, 2, 1.75, 1.5, 1.25, 1, 0.75, 0.5, 0.5, 0.5, 0.5])
    ends_with_its_segment = change(stage, {"schedule.end_step": None})
    assert at(ends_with_its_segment, 19, stop=20).factors["gram"] == 0.5
    assert end(ends_with_its_segment, 20) == 20
    assert end(change(ends_with_its_segment, {"gram.weight": 0.0}), 20) is None


def test_the_weight_of_local_crops_goes_to_its_value_as_the_gram_weight_warms_up(tiny, change):
    gram = Gram(weight=2.0, start_step=4, warmup_steps=5)
    settings = change(tiny, {"gram": gram, "dino.local_weight": 0.5, "dino.local_weight_start": 1.0})
    found = [local_weight(settings, step) for step in range(2, 11)]
    half = (1 - math.cos(math.pi / 4)) / 4
    assert found == pytest.approx([1, 1, 1, 1 - half, 0.75, 0.5 + half, 0.5, 0.5, 0.5])
    share = settings.crops.local_count / (1 + settings.crops.local_count)
    assert at(settings, 6, stop=20).factors["dino_local"] == pytest.approx(0.75 * share)
    assert local_weight(change(settings, {"gram.weight": 0.0}), 0) == 0.5


@pytest.mark.parametrize(
    ("shape", "expected"), [("linear", [1.0, 0.75, 0.5, 0.25, 0.0]), ("cosine", [1.0, 0.853553, 0.5, 0.146447, 0.0])]
)
def test_a_way_to_an_end_holds_both_of_its_values_and_the_last_from_there_on(shape, expected):
    how = {"first": 1.0, "last": 0.0, "begin": 10, "end": 15, "shape": shape}
    assert [transition(step, **how) for step in range(10, 15)] == pytest.approx(expected, abs=1e-6)
    assert [transition(step, **how) for step in (14, 15, 900)] == [0.0, 0.0, 0.0]


def test_peak_and_end_of_the_rate_are_scaled_and_its_start_is_not(tiny, change):
    stage = change(
        tiny,
        {
            "data.batch_size": 4096,
            "optimizer": recipe.Optimizer(
                lr=1e-3, lr_start=1e-5, lr_end=1e-4, lr_scaling="sqrt_wrt_1024", warmup_steps=2
            ),
        },
    )
    rates = [at(stage, step, stop=5).lr for step in range(6)]
    assert rates == pytest.approx([1e-5, (1e-5 + 8e-3) / 2, 8e-3, 4.4e-3, 8e-4, 8e-4])


def test_a_segments_own_clock_begins_at_its_fork(tiny, change):
    values = {
        "optimizer": recipe.Optimizer(lr=1.0, warmup_steps=4, freeze_last_layer_steps=2, weight_decay_end=0.4),
        "teacher": recipe.Teacher(momentum=0.9, momentum_end=1.0, temperature_warmup_steps=3),
        "schedule": recipe.Schedule(counts_from="segment", shape="linear"),
    }
    own, whole = change(tiny, values), change(tiny, {**values, "schedule": recipe.Schedule(shape="linear")})
    for step in range(11):
        mine, first = at(own, 100 + step, origin=100, stop=111), at(own, step, stop=11)
        assert mine._replace(step=step) == first == at(whole, step, stop=11)
    forked = at(whole, 100, stop=111)
    assert (forked.lr, forked.last_layer_lr, forked.temperature) == (1.0, 1.0, 0.07)
    assert forked.momentum == pytest.approx(0.9 + 0.1 * 100 / 110)
    assert forked.weight_decay == pytest.approx(0.04 + 0.36 * 100 / 110)
    assert counts_from_segment(own)
    assert not counts_from_segment(whole)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, False),
        ({"optimizer.warmup_steps": 1}, True),
        ({"optimizer.freeze_last_layer_steps": 1}, True),
        ({"teacher.temperature_warmup_steps": 1}, True),
        ({"optimizer.weight_decay_end": 0.0}, True),
        ({"schedule.end_step": 4, "teacher.momentum_end": 1.0}, True),
    ],
)
def test_the_start_counts_where_a_value_depends_on_it(tiny, change, values, expected):
    assert counts_from_segment(change(tiny, {"schedule.counts_from": "segment", **values})) is expected
    assert not counts_from_segment(change(tiny, values))


def test_weight_decay_and_momentum_of_a_step_are_those_that_it_is_taken_with(tiny, change, take_steps):
    values = {"optimizer.weight_decay": 0.0, "optimizer.weight_decay_end": 5.0, "schedule.end_step": 1}
    decayed, _ = take_steps(change(tiny, values), 1)
    as_much, _ = take_steps(change(tiny, {"optimizer.weight_decay": 5.0}), 1)
    plain, _ = take_steps(change(tiny, {"optimizer.weight_decay": 0.0}), 1)
    for name, weight in decayed.student.named_parameters():
        assert torch.equal(weight, as_much.student.get_parameter(name)), name
    assert not torch.equal(decayed.student.backbone.cls_token, plain.student.backbone.cls_token)
    still, _ = take_steps(change(tiny, {"teacher.momentum_end": 1.0, "schedule.end_step": 1}), 2)
    first = fresh_state(tiny, 0, torch.device("cpu")).teacher
    assert all(torch.equal(weight, first.get_parameter(name)) for name, weight in still.teacher.named_parameters())


def curve(job):
    return {row["step"]: row for row in map(json.loads, (job.folder / "metrics.jsonl").read_text().splitlines())}


def test_arms_cool_down_from_their_fork_and_cannot_be_extended(tiny, change, pool, tmp_path):
    arms = {"plain": {}, "cooled": {"schedule.counts_from": "segment", "optimizer.lr_end": 1e-4}}
    values = {"optimizer.lr": 1e-3, "teacher.momentum_end": 1.0, "schedule.end_step": 9}
    values |= {"trunk.steps": 2, "arms": arms, "runtime.folder": str(tmp_path), "schedule.shape": "linear"}

    def planned(**more):
        return jobs(change(tiny, {**values, **more}), fingerprint=lambda data: "24 rooms")

    trunk, plain, cooled = planned(steps=4)
    for job in (trunk, plain, cooled):
        train(job, pool, lambda job, step, folder: {}, device=torch.device("cpu"))
    assert [curve(plain)[step]["lr"] for step in (3, 4)] == [1e-3, 1e-3]
    assert [curve(cooled)[step]["lr"] for step in (3, 4)] == pytest.approx([1e-3, 1e-3 - 9e-4 / 6])
    share = [0, 1 / 8, 2 / 8, 3 / 8]  # of the whole run's nine steps, though the arm begins at the third
    path = {**curve(trunk), **curve(plain)}
    assert [path[step]["momentum"] for step in (1, 2, 3, 4)] == pytest.approx([0.9 + 0.1 * part for part in share])
    assert "weight_decay" not in path[4]
    for job in planned(steps=5):
        check(job)  # the end has a step of its own
    for job in planned(steps=4, **{"schedule.end_step": 4})[1:]:
        with pytest.raises(BadInput, match=r"schedule\.end_step was 9, is 4 .* cannot be extended"):
            check(job)
    cooling = {"steps": 4, "schedule.end_step": None, "name": "cooling"}
    for job in planned(**cooling):
        train(job, pool, lambda job, step, folder: {}, device=torch.device("cpu"))
    for job in planned(**{**cooling, "steps": 5})[1:]:
        with pytest.raises(BadInput, match=r"end_step was 4, is 5 \(null is the last step\): .* cannot be extended"):
            check(job)
    assert [job.science["schedule"]["end_step"] for job in planned(steps=4, **{"schedule.end_step": None})] == [2, 4, 4]


def test_a_job_that_is_stopped_early_follows_the_schedule_of_its_identity(tiny, change):
    """As a sweep stops its trials at each evaluation, for the pruner to look at them."""
    values = {"arms": {"cooled": {"optimizer.lr_end": 0.0}}, "steps": 6}
    (job,) = jobs(change(tiny, values), fingerprint=lambda data: "24 rooms")
    short = replace(job, stop=3)
    assert short.identity == job.identity
    state = fresh_state(tiny, 0, torch.device("cpu"))
    assert [scheduled(short, state, step) for step in range(3)] == [scheduled(job, state, step) for step in range(3)]
