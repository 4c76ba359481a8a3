"""Schedules against the recipe's check values; none of them knows how long a run will be."""

import pytest

from harness import settings
from harness.schedules import at, gram_weight, linear_warmup, peak_lr, renews_anchor, uses_gram

PAPER = settings.Gram(
    weight=2.0, start_step=1_000_000, warmup_steps=1000, teacher_step=200_000, update_every=10_000, resolution=2.0
)


def steps_that_renew(gram: settings.Gram, stop: int) -> list[int]:
    return [step for step in range(stop) if renews_anchor(gram, step)]


def test_the_stage_one_learning_rate_warms_up_to_its_scaled_peak():
    stage = settings.Experiment(
        optimizer=settings.Optimizer(lr=5e-5, lr_scaling=settings.Scaling.sqrt_wrt_1024, warmup_steps=100_000),
        data=settings.Data(batch_size=4096),
    )
    rates = [at(stage, step).lr for step in (0, 50_000, 100_000, 900_000)]
    assert rates == pytest.approx([0.0, 2.0e-4, 4.0e-4, 4.0e-4])


@pytest.mark.parametrize(("scaling", "factor"), [("none", 1.0), ("sqrt_wrt_1024", 2.0), ("linear_wrt_256", 1.0)])
def test_the_rate_scales_with_the_batch_as_asked(scaling, factor):
    stage = settings.Experiment(
        optimizer=settings.Optimizer(lr=1e-3, lr_scaling=settings.Scaling(scaling)), data=settings.Data(batch_size=256)
    )
    assert peak_lr(stage) == pytest.approx(factor * 1e-3)


def test_the_stage_two_gram_weight_rises_in_half_a_cosine():
    steps = (0, 999_999, 1_000_000, 1_000_500, 1_000_999, 1_001_000, 1_200_000)
    expected = [0, 0, 0, 1.00157, 2.0, 2.0, 2.0]
    assert [gram_weight(PAPER, step) for step in steps] == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize("warmup", [0, 1])
def test_without_a_warm_up_the_gram_weight_is_full_at_once(warmup):
    gram = settings.Gram(weight=2.0, start_step=5, warmup_steps=warmup)
    assert [gram_weight(gram, step) for step in (4, 5, 6)] == [0.0, 2.0, 2.0]


def test_the_gram_loss_is_computed_from_its_first_step_even_at_weight_zero():
    assert [uses_gram(PAPER, step) for step in (999_999, 1_000_000)] == [False, True]
    assert not uses_gram(settings.Gram(), 10)


@pytest.mark.parametrize(
    ("gram", "expected"),
    [
        ({"start_step": 4}, [4]),
        ({"start_step": 4, "teacher_step": 1}, [1]),
        ({"start_step": 4, "teacher_step": 0, "update_every": 3}, [0, 7, 10]),
        ({"start_step": 4, "update_every": 3}, [4, 7, 10]),
        ({"start_step": 0, "update_every": 5}, [0, 5, 10]),
        ({"start_step": 4, "teacher": settings.GramTeacher.ema}, []),
        ({"start_step": 4, "teacher": settings.GramTeacher.checkpoint, "checkpoint": "x"}, []),
        ({"start_step": 4, "teacher": settings.GramTeacher.checkpoint, "checkpoint": "x", "update_every": 4}, [8]),
        ({"start_step": 4, "update_every": 3, "weight": 0.0}, []),
    ],
)
def test_the_anchor_is_renewed_at_exactly_these_steps(gram, expected):
    assert steps_that_renew(settings.Gram(**{"weight": 1.0, **gram}), 12) == expected


def test_the_papers_anchor_is_the_early_snapshot_then_three_updates_in_forty_thousand_steps():
    found = [step for step in range(0, 1_040_000, 10_000) if renews_anchor(PAPER, step)]
    assert found == [200_000, 1_010_000, 1_020_000, 1_030_000]


def test_the_temperature_rises_in_a_line_and_stays():
    stage = settings.Experiment(teacher=settings.Teacher(temperature_warmup_steps=10))
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
        "gram": settings.Gram(weight=2.0, start_step=3, warmup_steps=6, update_every=4),
    }
    short, long = (change(tiny, {**values, "steps": steps}) for steps in (10, 1000))
    assert [at(short, step) for step in range(10)] == [at(long, step) for step in range(10)]
