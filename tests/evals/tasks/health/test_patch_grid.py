from __future__ import annotations

import numpy as np
import pytest
import torch

from common.errors import BadInput
from evals.tasks.health import patch_grid as module
from evals.tasks.health.patch_grid import Patches

TOKENS = torch.arange(5 * 6 * 2, dtype=torch.float32).reshape(5, 6, 2) + 1


def test_images_and_single_patches_are_the_rows_that_belong_to_them():
    rows = torch.cat([TOKENS[i] for i in (3, 0, 4, 1, 2)])  # stored in another order
    starts = torch.tensor([1, 3, 4, 0, 2]) * 6
    found = Patches(rows, starts, (2, 3))
    assert torch.equal(found.images([4, 1]), TOKENS[[4, 1]])
    places = torch.tensor([[0, 5], [1, 5], [2, 0], [3, 0], [4, 1]])
    expected = torch.stack([TOKENS[torch.arange(5), places[:, q]] for q in range(2)])
    assert torch.equal(found.at(places), expected)
    assert (len(found), found.count, found.width) == (5, 6, 2)


def test_blocks_cover_every_image_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "PATCHES_PER_BLOCK", 13)
    parts = list(Patches.in_memory(TOKENS, (3, 2)).blocks())
    assert [len(block) for _, block in parts] == [2, 2, 1]
    assert torch.equal(torch.cat([block for _, block in parts]), TOKENS)
    assert [i for which, _ in parts for i in range(5)[which]] == list(range(5))


def test_patches_at_unit_length_keep_their_direction():
    found = Patches.in_memory(torch.cat([TOKENS, torch.zeros(1, 6, 2)]), (2, 3)).as_units()
    np.testing.assert_allclose(found.images([0, 1]).norm(dim=2), 1, rtol=1e-6)
    np.testing.assert_allclose(found.at(torch.zeros(6, 1).long())[0, 2] * TOKENS[2, 0].norm(), TOKENS[2, 0], rtol=1e-6)
    assert (found.images([5]) == 0).all()


def test_a_grid_of_another_size_is_refused():
    with pytest.raises(BadInput, match="got 6 patches an image"):
        Patches.in_memory(TOKENS, (2, 2))
