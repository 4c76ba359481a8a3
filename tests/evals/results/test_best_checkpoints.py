from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from common.errors import BadInput
from evals.results.best_checkpoints import candidates, dse_over_training

ROOT = Path(__file__).resolve().parents[3]


def test_dimension_varies_as_much_as_separation_over_the_checkpoints():
    inter, intra, dim = [1.0, 1.2, 1.1, 0.8], [0.5, 0.4, 0.6, 0.7], [0.01, 0.02, 0.04, 0.03]
    apart = np.subtract(inter, intra)
    found = dse_over_training(inter, intra, dim) - apart
    assert found.std() == pytest.approx(apart.std())
    assert np.corrcoef(found, dim)[0, 1] == pytest.approx(1)


def test_the_unit_of_dimension_changes_nothing():
    inter, intra, dim = np.random.default_rng(0).random((3, 9))
    np.testing.assert_allclose(dse_over_training(inter, intra, dim), dse_over_training(inter, intra, 50 * dim))


def test_a_dimension_that_stays_counts_as_it_is():
    np.testing.assert_allclose(dse_over_training([1, 2], [0, 0], [0.3, 0.3]), [1.3, 2.3])
    np.testing.assert_allclose(dse_over_training([1], [0.5], [0.3]), [0.8])
    assert dse_over_training([], [], []).shape == (0,)


@pytest.mark.parametrize(
    ("inter", "dim"), [([1.0], [0.1, 0.2]), ([1.0, np.nan], [0.1, 0.2]), ([[1.0], [2]], [[1], [2]])]
)
def test_values_that_do_not_fit_are_refused(inter, dim):
    with pytest.raises(BadInput, match="one finite value of each per checkpoint"):
        dse_over_training(inter, np.zeros_like(inter), dim)


def test_candidates_are_the_highest_local_maxima_and_the_highest_comes_first():
    #         0  1  2  3  4  5  6  7  8  9  10 11 12
    values = [5, 1, 2, 3, 9, 8, 1, 1, 4, 2, 0, 0, 6]
    by_step = {100 * place: value for place, value in enumerate(values)}
    assert candidates(by_step) == (400, 1200, 0)
    assert candidates(by_step, count=10) == (400, 1200, 0, 800)
    assert candidates(by_step, window=4, count=10) == (400, 1200)
    assert candidates(dict(reversed(by_step.items()))) == (400, 1200, 0)


def test_a_rise_that_never_ends_has_its_last_checkpoint():
    assert candidates({step: step for step in range(10)}) == (9,)


def test_of_equal_checkpoints_the_earliest_counts():
    assert candidates({0: 1.0, 1: 1.0, 2: 1.0}) == (0,)
    assert candidates({}) == ()


def test_it_loads_without_torch():
    program = "import sys, evals.results.best_checkpoints; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
