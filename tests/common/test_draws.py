"""Keyed randomness, with recorded values: others would break the continuation of runs and move published numbers."""

import numpy as np
import pytest
import torch

from common import draws

GOLDEN_GENERATOR = [0.5456110328442284, 0.15163504103238112, 0.10184121242980004]
GOLDEN_UNIFORMS = [0.6319604188088476, 0.33747501255750956]


def test_draws_are_the_recorded_ones():
    assert draws.philox(0, 0, "crops").random(3).tolist() == GOLDEN_GENERATOR
    assert draws.uniforms(7, 1000, "mixing/share", 2).tolist() == GOLDEN_UNIFORMS


def test_the_same_key_gives_the_same_draws_whatever_was_drawn_before():
    first = draws.philox(1, 2, "masks", 3).random(5)
    draws.philox(1, 2, "masks", 4).random(100)
    assert np.array_equal(draws.philox(1, 2, "masks", 3).random(5), first)


@pytest.mark.parametrize("other", [(1, 0, "a", 0), (0, 1, "a", 0), (0, 0, "b", 0), (0, 0, "a", 1), (0, 0, "a, 0", 0)])
def test_each_part_of_the_key_matters(other):
    assert not np.array_equal(draws.philox(*other).random(4), draws.philox(0, 0, "a", 0).random(4))


def test_numbers_of_numpy_are_the_same_key():
    assert draws.philox(np.int64(3), np.int32(4), "a").random() == draws.philox(3, 4, "a").random()


def test_a_sample_draws_the_same_in_a_larger_batch():
    assert np.array_equal(draws.uniforms(0, 5, "a", 64, 3)[:16], draws.uniforms(0, 5, "a", 16, 3))
    assert np.array_equal(draws.uniforms(0, 5, "a", 64)[:16], draws.uniforms(0, 5, "a", 16))


def test_draws_of_many_keys_are_uniform_and_unrelated():
    table = np.stack([draws.uniforms(0, step, "a", 8) for step in range(2000)])
    assert abs(table.mean() - 0.5) < 0.01
    off_diagonal = np.corrcoef(table.T) - np.eye(8)
    assert np.abs(off_diagonal).max() < 0.1


ENTROPY = {
    (0, "views", 0): 0xB8CA4A9E2BDE2DC5A1B8051BB3441C78,
    (0, "order", 1): 0x29831E003715F5755CA9043B9CE4B3FC,
    (1, "head", 0): 0x89C4C675B8B39ACC887DD3ED1E96F2A2,
    (7, "groups", 1000): 0xB3C201F7AB23443084E2458E89BAEAA6,
}


@pytest.mark.parametrize("key", ENTROPY)
def test_entropy_is_the_recorded_one(key: tuple[int, str, int]):
    assert draws.entropy(*key) == ENTROPY[key]


def test_entropy_takes_numbers_of_numpy_for_the_same_key():
    assert draws.entropy(np.int64(7), "groups", np.int32(1000)) == draws.entropy(7, "groups", 1000)


def test_evaluations_draw_the_recorded_numbers():
    colours = draws.pcg64(0, "colours", 5)
    assert draws.pcg64(0, "views", 3).random(3).tolist() == [
        0.04396946030202398, 0.4010986397564753, 0.3771553403552985,
    ]  # fmt: skip
    assert draws.pcg64(0, "held out").permutation(8).tolist() == [7, 1, 6, 0, 5, 4, 3, 2]
    assert colours.integers(0, 100, 5).tolist() == [46, 17, 28, 41, 11]
    assert colours.uniform(-1, 1, 2).tolist() == [-0.2293911063031957, 0.31910703014067376]


def test_torch_generators_draw_the_recorded_numbers():
    dropped = torch.rand(3, generator=draws.torch_generator(0, "dropout", 2)).tolist()
    assert dropped == [0.06351834535598755, 0.7642524242401123, 0.09830796718597412]
    start = torch.randn(16, generator=draws.torch_generator(0, "head"))[:3].tolist()
    assert start == pytest.approx([-0.8364203572273254, 0.6410359740257263, -1.4433902502059937], rel=1e-5)


def test_the_stream_shows_images_in_the_recorded_order():
    orders = [[draws.Stream(6, seed)[position] for position in range(12)] for seed in (0, 1)]
    assert orders == [[4, 5, 2, 3, 0, 1, 1, 2, 0, 5, 4, 3], [5, 0, 1, 4, 3, 2, 0, 2, 3, 4, 1, 5]]


def test_each_epoch_of_the_stream_shows_every_image_once_in_an_order_of_its_own():
    stream = draws.Stream(7, seed=1)
    epochs = [[stream[7 * epoch + place] for place in range(7)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert [draws.Stream(7, seed=1)[p] for p in (20, 0, 13)] == [epochs[2][6], epochs[0][0], epochs[1][6]]
    assert [draws.Stream(50, seed=2)[p] for p in range(50)] != [draws.Stream(50, seed=1)[p] for p in range(50)]


def test_draws_of_evaluations_depend_on_seed_purpose_and_number():
    keys = [(0, "views", 0), (1, "views", 0), (0, "order", 0), (0, "views", 1)]
    drawn = [draws.pcg64(*key).random() for key in keys]
    drawn += [float(torch.rand((), generator=draws.torch_generator(*key))) for key in keys]
    assert len({round(x, 6) for x in drawn}) == 2 * len(keys)
    assert draws.pcg64(0, "views", 1).random() == draws.pcg64(0, "views", 1).random()
