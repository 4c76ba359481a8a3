from __future__ import annotations

import math
import statistics as numbers

import pytest
import torch

from evals.tasks.depth.bins import BinsHead, sig_loss


def test_the_loss_has_its_published_value():
    prediction, truth = torch.tensor([1.0, 2.0, 4.0]), torch.tensor([1.1, 1.8, 4.4])
    assert float(sig_loss(prediction, truth, mean_weight=0.15, shift=1e-3)) == pytest.approx(0.116314, abs=5e-7)


def test_the_loss_equals_its_formula_and_at_first_has_no_variance():
    draw = torch.Generator().manual_seed(0)
    prediction, truth = (0.1 + torch.rand(50, generator=draw, dtype=torch.float64) for _ in range(2))
    gaps = [math.log(p + 0.01) - math.log(t + 0.01) for p, t in zip(prediction.tolist(), truth.tolist(), strict=True)]
    mean = numbers.mean(gaps)
    found = [float(sig_loss(prediction, truth, mean_weight=0.3, shift=0.01, variance=v)) for v in (True, False)]
    assert found == pytest.approx([math.sqrt(numbers.variance(gaps) + 0.3 * mean**2), math.sqrt(0.3) * abs(mean)])


@pytest.mark.parametrize("variance", [True, False])
@pytest.mark.parametrize("pixels", [0, 1, 5])
def test_perfect_predictions_and_batches_without_valid_pixels_have_no_loss_and_no_slope(variance: bool, pixels: int):
    prediction = torch.full((pixels,), 2.0).requires_grad_()
    loss = sig_loss(prediction, torch.full((pixels,), 2.0), mean_weight=0.15, shift=1e-3, variance=variance)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-15)
    assert prediction.grad is not None
    assert not prediction.grad.any()


def head(floor: float = 0.1) -> BinsHead:
    return BinsHead(4, 256, low=0.001, high=10.0, floor=floor, init_std=0.01, seed=0).eval()


def test_without_a_preference_the_depth_is_the_middle_of_the_range():
    with torch.no_grad():
        found = head()(torch.zeros(2, 4, 3, 5))
    assert found.shape == (2, 1, 3, 5)
    torch.testing.assert_close(found, torch.full_like(found, (0.001 + 10) / 2))


def test_the_depth_is_the_mean_of_the_centres_weighted_by_the_positive_part_and_the_floor():
    one = head(floor=0.2)
    with torch.no_grad():
        one.logits.bias[:] = -5
        one.logits.bias[0], one.logits.bias[255] = 3.0, 1.0
        found = one(torch.zeros(1, 4, 1, 1)).item()
    centres = [0.001 + (10 - 0.001) * i / 255 for i in range(256)]
    weights = [3.2, *[0.2] * 254, 1.2]
    wanted = sum(w * c for w, c in zip(weights, centres, strict=True)) / sum(weights)
    assert found == pytest.approx(wanted, rel=1e-5)
