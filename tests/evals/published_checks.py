"""What must hold of every training on live features, whatever its head."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from common.workers import batches
from evals.backbones.backbone import Backbone
from evals.fitting.augmented import AugmentedBatch


def assert_equal_from_workers(make: Callable[[int], AugmentedBatch], workers: int) -> None:
    """The first three batches are the same when processes make them."""
    for alone, together in zip(batches(make, 3), batches(make, 3, workers=workers), strict=True):
        assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@contextmanager
def untouched(backbone: Backbone) -> Iterator[None]:
    """The block leaves the backbone's tensors and modes and the global random states as they were, no gradient set."""
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    modes = [module.training for module in backbone.modules()]
    state, numbers = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (that is what must stay)
    yield
    assert torch.equal(state, torch.get_rng_state())
    assert np.array_equal(numbers, np.random.get_state()[1])  # noqa: NPY002
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    assert [module.training for module in backbone.modules()] == modes
    assert all(parameter.grad is None for parameter in backbone.parameters())
