"""Block masks: the recipe's counts, exact sizes, and what is random about them."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from common import draws
from common.errors import BadInput
from harness.data.masks import batch_masks, block_mask, mask_counts

RECIPE = {"probability": 0.5, "ratio_min": 0.1, "ratio_max": 0.5}


def test_counts_are_those_of_the_recipe():
    assert mask_counts(8, 196, **RECIPE) == [39, 58, 78, 98]


def test_the_masked_share_is_that_of_the_recipe():
    assert sum(mask_counts(32, 256, **RECIPE)) / (32 * 256) == pytest.approx(0.15552, abs=5e-6)


@pytest.mark.parametrize(
    ("crops", "probability", "want"), [(7, 0.5, [2, 3, 5]), (4, 0.0, []), (2, 1.0, [3, 5]), (1, 0.5, [])]
)
def test_counts_round_down_and_may_be_none(crops, probability, want):
    assert mask_counts(crops, 10, probability, 0.1, 0.5) == want


@pytest.mark.parametrize("grid", [(14, 14), (8, 8), (4, 7), (1, 9), (9, 1), (2, 2), (1, 1)])
def test_a_block_mask_has_exactly_the_count(grid):
    patches = grid[0] * grid[1]
    for count in range(patches + 1):
        mask = block_mask(draws.philox(0, 0, "test", count), grid, count)
        assert mask.shape == grid
        assert mask.sum() == count


@pytest.mark.parametrize("count", [-1, 17])
def test_more_patches_than_there_are_is_refused(count):
    with pytest.raises(BadInput, match=f"got {count} patches to mask on a 4x4 grid: want 0 to 16"):
        block_mask(draws.philox(0, 0, "test"), (4, 4), count)


def test_masks_are_made_of_blocks_not_of_single_patches():
    """Masked neighbours of masked patches: far more than if the same number were scattered."""

    def touching(mask):
        return (mask[1:] & mask[:-1]).sum() + (mask[:, 1:] & mask[:, :-1]).sum()

    blocks = sum(touching(block_mask(draws.philox(0, i, "test"), (14, 14), 58)) for i in range(50))
    scattered = 0
    for i in range(50):
        scattered += touching(draws.philox(0, i, "scatter").permuted(np.arange(196) < 58).reshape(14, 14))
    assert blocks > 2 * scattered


def test_masks_favour_no_side_of_the_crop():
    """Blocks meet the middle more often than corners, but left as often as right, rows as often as columns."""
    masks = torch.cat([batch_masks(0, step, 16, (6, 6), **RECIPE) for step in range(150)])
    share = masks.float().mean(0).view(6, 6)
    for turned in (share.flip(0), share.flip(1), share.T):
        assert_close(share, turned, atol=0.04, rtol=0)
    assert share.min() > 0.03


def test_the_batch_masks_its_counts_in_some_crops_and_leaves_the_others():
    masks = batch_masks(3, 4, 8, (14, 14), **RECIPE)
    assert masks.shape == (8, 196)
    assert masks.dtype == torch.bool
    assert sorted(masks.sum(1).tolist()) == [0, 0, 0, 0, 39, 58, 78, 98]


def test_which_crops_are_masked_changes_from_step_to_step_and_favours_none():
    hits = torch.stack([batch_masks(0, step, 8, (4, 4), **RECIPE).any(1) for step in range(300)]).float().mean(0)
    assert hits.min() > 0.4
    assert hits.max() < 0.6


def test_masks_are_a_function_of_seed_and_step():
    first = batch_masks(1, 2, 8, (7, 7), **RECIPE)
    assert torch.equal(first, batch_masks(1, 2, 8, (7, 7), **RECIPE))
    assert not torch.equal(first, batch_masks(1, 3, 8, (7, 7), **RECIPE))
    assert not torch.equal(first, batch_masks(2, 2, 8, (7, 7), **RECIPE))


def test_masks_that_are_shifted_are_the_others_moved_around_their_edges():
    plain, moved = (batch_masks(0, 3, 16, (6, 6), **RECIPE, shift=shift).view(-1, 6, 6) for shift in (False, True))
    assert not torch.equal(plain, moved)
    for mask, other in zip(plain, moved, strict=True):
        turns = [mask.roll((down, right), (0, 1)) for down in range(6) for right in range(6)]
        assert any(torch.equal(turned, other) for turned in turns)


def test_shifted_masks_favour_no_place_of_the_crop():
    masks = torch.cat([batch_masks(0, step, 16, (6, 6), **RECIPE, shift=True) for step in range(150)])
    share = masks.float().mean(0)
    assert share.max() - share.min() < 0.06
