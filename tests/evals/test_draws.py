"""The keyed draws, with recorded values: others would move published numbers under an unchanged hash of a protocol."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from evals import draws

ENTROPY = {
    (0, "views", 0): 0xB8CA4A9E2BDE2DC5A1B8051BB3441C78,
    (0, "order", 1): 0x29831E003715F5755CA9043B9CE4B3FC,
    (1, "head", 0): 0x89C4C675B8B39ACC887DD3ED1E96F2A2,
    (7, "groups", 1000): 0xB3C201F7AB23443084E2458E89BAEAA6,
}


@pytest.mark.parametrize("key", ENTROPY)
def test_entropy_is_the_recorded_one(key: tuple[int, str, int]):
    assert draws.entropy(*key) == ENTROPY[key]


def test_numbers_of_numpy_are_the_same_key():
    assert draws.entropy(np.int64(7), "groups", np.int32(1000)) == draws.entropy(7, "groups", 1000)


def test_generators_draw_the_recorded_numbers():
    colours = draws.generator(0, "colours", 5)
    assert draws.generator(0, "views", 3).random(3).tolist() == [
        0.04396946030202398, 0.4010986397564753, 0.3771553403552985,
    ]  # fmt: skip
    assert draws.generator(0, "held out").permutation(8).tolist() == [7, 1, 6, 0, 5, 4, 3, 2]
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


def test_generators_depend_on_seed_purpose_and_number():
    keys = [(0, "views", 0), (1, "views", 0), (0, "order", 0), (0, "views", 1)]
    drawn = [draws.generator(*key).random() for key in keys]
    drawn += [float(torch.rand((), generator=draws.torch_generator(*key))) for key in keys]
    assert len({round(x, 6) for x in drawn}) == 2 * len(keys)
    assert draws.generator(0, "views", 1).random() == draws.generator(0, "views", 1).random()
