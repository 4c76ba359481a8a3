"""RoPE against the recipe's check values, against timm's own table, and the bounds of its training-time draws."""

import math

import numpy as np
import pytest
import torch
from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3

from harness.rope import RopeDraw, draw_rope, patch_coordinates, rope_table


def rng(number: int = 0) -> np.random.Generator:
    return np.random.default_rng(number)


@pytest.fixture(scope="module")
def rope() -> RotaryEmbeddingDinoV3:
    return RotaryEmbeddingDinoV3(64, temperature=100.0).eval()


def test_periods_are_those_of_the_recipe(rope):
    assert rope.periods[[0, 1, 8, 15]].tolist() == pytest.approx([1, 1.3335, 10, 74.989], rel=1e-4)


def test_the_first_patch_of_a_two_by_two_grid_turns_by_minus_pi(rope):
    row, column = patch_coordinates((2, 2))[0].tolist()
    assert (row, column) == (-0.5, -0.5)
    sine, cosine = rope_table(rope.periods, (2, 2))[0].chunk(2)
    angles = torch.atan2(sine, cosine)
    assert abs(angles[0].item()) == pytest.approx(math.pi, abs=1e-6)
    assert angles[8].item() == pytest.approx(-math.pi / 10, abs=1e-6)


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (4, 7), (14, 14), (32, 20)])
def test_the_table_is_the_one_timm_makes_at_evaluation(rope, grid):
    torch.testing.assert_close(rope_table(rope.periods, grid), rope.get_embed(shape=list(grid)), rtol=0, atol=1e-6)


def test_row_angles_come_before_column_angles(rope):
    table = rope_table(rope.periods, (4, 1))
    angles = torch.atan2(table[:, :64], table[:, 64:])
    assert angles[:, :16].unique(dim=0).shape[0] == 4
    assert (angles[:, 16:32] == 0).all()
    torch.testing.assert_close(angles[:, :32], angles[:, 32:])


def test_a_factor_on_the_coordinates_divides_the_periods(rope):
    doubled = rope_table(rope.periods, (4, 4), RopeDraw((0.0, 0.0), (2.0, 2.0)))
    torch.testing.assert_close(doubled, rope_table(rope.periods / 2, (4, 4)))


def test_the_shift_comes_before_the_factor():
    plain, moved = patch_coordinates((3, 3)), patch_coordinates((3, 3), RopeDraw((0.25, -0.5), (2.0, 0.5)))
    torch.testing.assert_close(moved, (plain + torch.tensor([0.25, -0.5])) * torch.tensor([2.0, 0.5]))


def test_nothing_is_drawn_when_all_is_off():
    assert draw_rope(rng(), shift=None, jitter=None, rescale=None) is None


def test_one_rescale_is_common_to_both_axes():
    draws = [draw_rope(rng(i), shift=None, jitter=None, rescale=2.0) for i in range(500)]
    assert all(draw.factor[0] == draw.factor[1] and draw.shift == (0.0, 0.0) for draw in draws)
    logs = np.log2([draw.factor[0] for draw in draws])
    assert np.abs(logs).max() <= 1
    assert logs.min() < -0.95
    assert logs.max() > 0.95
    assert abs(logs.mean()) < 0.1  # log-uniform: as often below 1 as above


def test_jitter_and_shift_are_drawn_for_each_axis_within_their_bounds():
    draws = [draw_rope(rng(i), shift=0.3, jitter=1.5, rescale=None) for i in range(500)]
    shifts, factors = (np.array([getattr(draw, part) for draw in draws]) for part in ("shift", "factor"))
    assert 0.28 < np.abs(shifts).max() <= 0.3
    assert 1.45 < np.exp(np.abs(np.log(factors)).max()) <= 1.5
    for values in (shifts, np.log(factors)):
        assert abs(np.corrcoef(values.T)[0, 1]) < 0.15


def test_jitter_and_rescale_multiply():
    both = draw_rope(rng(3), shift=None, jitter=1.5, rescale=2.0)
    jitter = draw_rope(rng(3), shift=None, jitter=1.5, rescale=None)
    rescale = draw_rope(rng(3), shift=None, jitter=None, rescale=2.0)
    assert both.factor == pytest.approx([a * b for a, b in zip(jitter.factor, rescale.factor, strict=True)])


def test_bfloat16_rounds_the_places_of_the_patches_and_the_angles(rope):
    places = patch_coordinates((28, 28), dtype=torch.bfloat16)
    exact = patch_coordinates((28, 28)).double()
    assert 1e-4 < (places.double() - exact).abs().max() < 2**-8  # half a unit of eight bits, below 1
    table = rope_table(rope.periods, (28, 28), dtype=torch.bfloat16)
    assert table.dtype == torch.bfloat16
    worst = (table.double() - rope_table(rope.periods, (28, 28)).double()).abs().max()
    assert 1e-3 < worst < 2 * math.pi * 2**-7


def test_the_table_stays_in_float32_under_autocast(rope):
    with torch.autocast("cpu", torch.bfloat16):
        assert rope_table(rope.periods.bfloat16(), (2, 2)).dtype == torch.float32
