from __future__ import annotations

import numpy as np
import pytest

from evals.features.patch_choice import quotas, visits


def test_images_of_one_size_give_equally_many_and_the_rest_is_spread():
    assert quotas(np.full(4, 10), 12).tolist() == [3, 3, 3, 3]
    found = quotas(np.full(8, 10), 20)
    assert found.tolist() == [3, 2, 3, 2, 3, 2, 3, 2]


def test_small_images_give_all_and_larger_ones_make_up_for_them():
    assert quotas(np.array([2, 50, 50, 3]), 65).tolist() == [2, 30, 30, 3]
    assert quotas(np.array([2, 50, 50, 3]), 105).tolist() == [2, 50, 50, 3]
    assert quotas(np.array([2, 50, 50, 3]), 10**9).tolist() == [2, 50, 50, 3]


@pytest.mark.parametrize("most", [1, 7, 99, 100, 1234, 5000])
def test_together_they_give_what_was_asked_for(most: int):
    sizes = np.random.default_rng(0).integers(1, 90, 100)
    found = quotas(sizes, most)
    assert found.sum() == min(most, sizes.sum())
    assert (found <= sizes).all()
    assert np.ptp(found[found < sizes]) <= 1 if most < sizes.sum() else (found == sizes).all()


def test_with_fewer_patches_than_images_those_that_give_one_are_spread():
    assert np.flatnonzero(quotas(np.full(100, 5), 4)).tolist() == [0, 25, 50, 75]


@pytest.mark.parametrize("grid", [(1, 1), (1, 7), (14, 14), (12, 16), (9, 40)])
def test_every_patch_is_visited_once(grid: tuple[int, int]):
    for image in (0, 5):
        assert sorted(visits(grid, image, 10)) == list(range(grid[0] * grid[1]))


def test_the_first_visits_cover_the_image_evenly():
    for image in range(8):
        rows, columns = np.divmod(visits((16, 16), image, 32)[:32], 16)
        quarters = np.bincount(rows // 8 * 2 + columns // 8, minlength=4)
        assert quarters.min() >= 7
        assert min(len(set(rows)), len(set(columns))) >= 12


def test_images_go_on_where_the_one_before_stopped():
    taken = [visits((6, 6), image, 9)[:9] for image in range(4)]
    assert sorted(np.concatenate(taken)) == list(range(36))
