from __future__ import annotations

import torch

from evals import draws


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
