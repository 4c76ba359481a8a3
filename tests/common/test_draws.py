"""Keyed randomness: golden values, so that a run continues bit for bit with a later version of the code."""

import numpy as np
import pytest

from common import draws

GOLDEN_GENERATOR = [0.5456110328442284, 0.15163504103238112, 0.10184121242980004]
GOLDEN_UNIFORMS = [0.6319604188088476, 0.33747501255750956]


def test_draws_are_the_recorded_ones():
    assert draws.generator(0, 0, "crops").random(3).tolist() == GOLDEN_GENERATOR
    assert draws.uniforms(7, 1000, "mixing/share", 2).tolist() == GOLDEN_UNIFORMS


def test_the_same_key_gives_the_same_draws_whatever_was_drawn_before():
    first = draws.generator(1, 2, "masks", 3).random(5)
    draws.generator(1, 2, "masks", 4).random(100)
    assert np.array_equal(draws.generator(1, 2, "masks", 3).random(5), first)


@pytest.mark.parametrize("other", [(1, 0, "a", 0), (0, 1, "a", 0), (0, 0, "b", 0), (0, 0, "a", 1), (0, 0, "a, 0", 0)])
def test_each_part_of_the_key_matters(other):
    assert not np.array_equal(draws.generator(*other).random(4), draws.generator(0, 0, "a", 0).random(4))


def test_numbers_of_numpy_are_the_same_key():
    assert draws.generator(np.int64(3), np.int32(4), "a").random() == draws.generator(3, 4, "a").random()


def test_a_sample_draws_the_same_in_a_larger_batch():
    assert np.array_equal(draws.uniforms(0, 5, "a", 64, 3)[:16], draws.uniforms(0, 5, "a", 16, 3))
    assert np.array_equal(draws.uniforms(0, 5, "a", 64)[:16], draws.uniforms(0, 5, "a", 16))


def test_draws_of_many_keys_are_uniform_and_unrelated():
    table = np.stack([draws.uniforms(0, step, "a", 8) for step in range(2000)])
    assert abs(table.mean() - 0.5) < 0.01
    off_diagonal = np.corrcoef(table.T) - np.eye(8)
    assert np.abs(off_diagonal).max() < 0.1
