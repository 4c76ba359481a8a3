"""KoLeo against the recipe's value, plain loops and what must always hold."""

import math

import pytest
import torch
from torch.testing import assert_close

from common.errors import BadInput
from harness.losses.inputs import Outputs, Targets
from harness.losses.koleo import Koleo, factors, koleo_loss, terms


def tokens(images=6, width=4, seed=0, dtype=torch.float64):
    return torch.randn(images, width, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def in_plain_loops(rows):
    units = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in rows]
    total = 0.0
    for i, mine in enumerate(units):
        others = [unit for j, unit in enumerate(units) if j != i]
        nearest = max(others, key=lambda other: sum(a * b for a, b in zip(mine, other, strict=True)))
        gap = math.sqrt(sum((a - b + 1e-8) ** 2 for a, b in zip(mine, nearest, strict=True)))
        total -= math.log(gap + 1e-8)
    return torch.tensor(total / len(units), dtype=torch.float64)


def test_koleo_gives_the_value_of_the_recipe():
    rows = torch.tensor([[1, 0], [0, 1], [1, 1]], dtype=torch.float64)
    assert_close(koleo_loss(rows), torch.tensor(0.267400, dtype=torch.float64), atol=5e-7, rtol=0)


@pytest.mark.parametrize("images", [2, 3, 16])
@pytest.mark.parametrize("width", [2, 3, 17])
def test_koleo_equals_plain_loops(images, width):
    rows = tokens(images, width, seed=images + width)
    want = in_plain_loops(rows.tolist())
    assert_close(koleo_loss(rows), want)
    assert_close(koleo_loss(rows.float()), want.float(), atol=1e-5, rtol=1e-5)


def test_opposite_tokens_are_each_others_neighbours():
    assert_close(koleo_loss(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])), torch.tensor(-math.log(2)))


def test_koleo_is_blind_to_order_length_and_rotation():
    rows = tokens()
    turn = torch.linalg.qr(tokens(4, 4, seed=1)).Q
    lengths = 0.1 + tokens(6, 1, seed=2).abs()
    assert_close(koleo_loss((rows * lengths)[[3, 1, 5, 0, 4, 2]] @ turn), koleo_loss(rows), atol=1e-7, rtol=1e-6)


def test_koleo_gradients_are_right():
    assert torch.autograd.gradcheck(koleo_loss, tokens(5, 3, seed=3).requires_grad_())


def test_descending_koleo_spreads_the_tokens():
    rows = (torch.ones(4, 3, dtype=torch.float64) + 0.1 * tokens(4, 3)).requires_grad_()
    before = koleo_loss(rows)
    (slope,) = torch.autograd.grad(before, rows)
    assert koleo_loss(rows - 1e-3 * slope) < before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize(
    "rows",
    [
        torch.ones(4, 8),
        torch.cat([torch.ones(2, 8), torch.eye(8)]),
        torch.zeros(3, 8),
        torch.cat([torch.zeros(1, 8), torch.eye(8)]),
        1e4 * torch.eye(8),
        1e-6 * torch.eye(8),
    ],
    ids=["all equal", "two equal", "all zero", "one zero", "huge", "tiny"],
)
def test_equal_zero_huge_and_tiny_tokens_give_finite_values_and_gradients(rows, dtype):
    rows = rows.to(dtype, copy=True).requires_grad_()
    loss = koleo_loss(rows)
    loss.backward()
    assert loss.isfinite()
    assert rows.grad is not None
    assert rows.grad.isfinite().all()


def test_equal_tokens_are_worth_what_the_formula_says_and_pull_nowhere():
    rows = torch.ones(2, 4, dtype=torch.float64, requires_grad=True)
    loss = koleo_loss(rows)
    loss.backward()
    assert_close(loss.detach(), in_plain_loops(rows.tolist()))
    assert rows.grad is not None
    assert (rows.grad == 0).all()


def test_a_batch_of_one_gives_zero_with_a_graph():
    row = tokens(1).requires_grad_()
    loss = koleo_loss(row)
    loss.backward()
    assert loss == 0
    assert row.grad is not None
    assert (row.grad == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_worked_in_float32_whatever_the_autocast(dtype):
    rows = tokens(dtype=torch.float32).to(dtype)
    want = koleo_loss(rows.float())
    with torch.autocast("cpu", torch.bfloat16):
        got = koleo_loss(rows)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4), (0, 4), (4, 0)])
def test_impossible_input_is_refused_in_one_line(shape):
    with pytest.raises(BadInput, match=r"got tokens \[.*\]: want \[B, D\]"):
        koleo_loss(torch.zeros(shape))


def koleo_terms(own, cls):
    """The term and its factor, of class tokens [2, B, D] alone."""
    empty = torch.empty(0)
    outputs = Outputs(empty, None, None, cls, empty, empty)
    return terms(own, outputs, Targets(empty, None, None, empty))["koleo"], factors(own, own.weight, 8)["koleo"]


def test_the_total_has_a_tenth_of_koleo_for_each_crop_that_is_spread():
    cls = torch.stack([tokens(6, seed=1), tokens(6, seed=2)])
    first, second = (in_plain_loops(crop.tolist()) for crop in cls)
    for crops, want in (("both", 0.1 * (first + second)), ("first", 0.1 * first)):
        term, factor = koleo_terms(Koleo(crops=crops), cls)
        assert_close(factor * term, want)


def test_a_token_has_its_neighbour_in_its_own_group_of_the_batch():
    cls = torch.stack([tokens(8, seed=1), tokens(8, seed=2)])
    groups = [in_plain_loops(crop[start : start + 4].tolist()) for crop in cls for start in (0, 4)]
    assert_close(koleo_terms(Koleo(group=4), cls)[0], torch.stack(groups).mean())
    assert torch.equal(koleo_terms(Koleo(group=8), cls)[0], koleo_terms(Koleo(), cls)[0])
    assert torch.equal(koleo_terms(Koleo(group=100), cls)[0], koleo_terms(Koleo(), cls)[0])


def test_koleo_runs_on_the_meta_device():
    assert koleo_loss(torch.empty(4, 8, device="meta", requires_grad=True)).shape == ()
