"""When an alarm is raised: the rule that a run obeys and that is replayed over runs that had none."""

import math

import numpy as np
import pytest

from evals.results.alarm import has_fallen, raised


@pytest.mark.parametrize(
    ("values", "share", "step"),
    [
        ([1.0, 1.2, 1.15, 1.07], 0.1, 30),
        ([1.0, 1.2, 1.15, 1.09], 0.1, None),
        ([1.0, 0.85, 2.0, 1.9], 0.1, 10),  # of the best so far, not of all
        ([-1.0, -1.04, -1.1], 0.05, 20),
        ([0.0, 0.0, 0.0], 0.1, None),
        ([0.0, -0.1], 0.1, 10),
    ],
)
def test_the_alarm_is_raised_at_the_first_fall_by_its_share_of_the_best_value(values, share, step):
    assert raised({10 * place: value for place, value in enumerate(values)}, share=share) == step


def test_a_lower_level_never_fires_later():
    draws = np.random.default_rng(0)
    for _ in range(100):
        values = dict(enumerate(1 + 0.1 * draws.standard_normal(20).cumsum()))
        steps = [raised(values, share=share) for share in (0.01, 0.05, 0.2, 0.5)]
        assert sorted(steps, key=lambda step: math.inf if step is None else step) == steps


def test_what_comes_after_the_alarm_does_not_move_it():
    values = {0: 1.0, 10: 0.75, 20: 5.0, 30: 0.1}
    assert raised(values, share=0.2) == raised({0: 1.0, 10: 0.75}, share=0.2) == 10


def test_the_best_value_itself_has_not_fallen_though_the_level_be_zero():
    assert not has_fallen(0.0, best=0.0, share=0.1)
    assert not has_fallen(1.0, best=1.0, share=0.0)
    assert has_fallen(0.9, best=1.0, share=0.0)
