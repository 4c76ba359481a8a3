"""Schedules against the recipe's check values; none of them knows how long a run will be."""

import pytest

from harness import recipe, settings
from harness.losses.gram import Gram
from harness.schedules import at, linear_warmup, peak_lr


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
    assert peak_lr(stage) == pytest.approx(factor * 1e-3)


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
