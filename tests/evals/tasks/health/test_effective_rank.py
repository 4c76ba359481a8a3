from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from evals.tasks.health.effective_rank import patch_ranks, rank_of, row_ranks
from evals.tasks.health.patch_grid import Patches


def plain(x: np.ndarray, *, centred: bool = False, weights: np.ndarray | None = None) -> float:
    """Effective rank from its definition, by singular values; rows may weigh more or less."""
    weights = np.full(len(x), 1 / len(x)) if weights is None else weights / weights.sum()
    x = x.astype(np.float64)
    if centred:
        x = x - weights @ x
    singular = np.linalg.svd(np.sqrt(weights)[:, None] * x, compute_uv=False)
    share = singular / singular.sum()
    return math.exp(-sum(float(p) * math.log(p) for p in share if p > 0))


def features(images: int, patches: int, width: int, *, seed: int = 0) -> Tensor:
    """Images of unlike strength along unlike directions, far from zero."""
    draw = torch.Generator().manual_seed(seed)
    strength = torch.randn(images, 1, width, generator=draw).exp()
    return strength * torch.randn(images, patches, width, generator=draw) + 1.5


def loose(x: Tensor, grid: tuple[int, int] = (2, 3)) -> Patches:
    return Patches.in_memory(x, grid)


def tilted(count: int, image: int, step: float) -> np.ndarray:
    weights = np.full(count, (1 - step) / count)
    weights[image] += step
    return weights


@pytest.mark.parametrize(("images", "width"), [(30, 7), (9, 20), (12, 12)])
def test_the_mean_over_rows_is_the_effective_rank_of_the_matrix(images: int, width: int):
    x = features(images, 1, width)[:, 0]
    assert float(row_ranks(x).mean()) == pytest.approx(plain(x.numpy()), rel=1e-9)
    both = row_ranks(torch.stack([x, x.flip(1) * 4]))
    torch.testing.assert_close(both[0], both[1])


def test_the_mean_over_images_is_the_effective_rank_of_all_centred_patches():
    x = features(10, 6, 8)
    assert float(patch_ranks(loose(x)).mean()) == pytest.approx(plain(x.flatten(0, 1).numpy(), centred=True), rel=1e-9)


@pytest.mark.parametrize("width", [5, 18])
def test_row_ranks_are_exact_derivatives_by_the_weights_of_images(width: int):
    x, step = features(12, 1, width)[:, 0], 1e-4
    found = row_ranks(x).numpy()
    for image in (0, 5, 11):
        up, down = (plain(x.numpy(), weights=tilted(12, image, s)) for s in (step, -step))
        assert found[image] - found.mean() == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-6)


def test_patch_ranks_are_exact_derivatives_by_the_weights_of_images():
    x, step = features(10, 6, 8), 1e-4
    found, rows = patch_ranks(loose(x)).numpy(), x.flatten(0, 1).numpy()
    for image in (0, 4, 9):
        weights = (np.repeat(tilted(10, image, s), 6) for s in (step, -step))
        up, down = (plain(rows, centred=True, weights=w) for w in weights)
        assert found[image] - found.mean() == pytest.approx((up - down) / (2 * step), rel=1e-4, abs=1e-6)


def test_their_standard_errors_are_those_of_a_bootstrap_over_images():
    x, draw = features(200, 6, 5), np.random.default_rng(0)
    rows, patches = [], []
    for _ in range(400):
        again = x[draw.integers(0, 200, 200)].numpy()
        rows.append(plain(again[:, 0]))
        patches.append(plain(again.reshape(-1, 5), centred=True))
    for pseudo, repeated in ((row_ranks(x[:, 0]), rows), (patch_ranks(loose(x)), patches)):
        assert float(pseudo.std()) / math.sqrt(200) == pytest.approx(np.std(repeated), rel=0.25)


def test_equal_energies_count_and_absent_ones_do_not():
    rank, slope = rank_of(torch.tensor([4.0, 4, 4, 0]).double(), torch.tensor(12.0))
    assert float(rank) == pytest.approx(3)
    assert float(slope[3]) == 0
    assert slope[:3].abs().max() < 1e-12  # a rank of equal energies is at its highest


def test_more_equal_directions_rank_higher_and_scale_counts_nowhere():
    x = torch.randn(400, 1, 12, generator=torch.Generator().manual_seed(0))
    low = x.clone()
    low[..., 3:] *= 1e-3
    few, many = float(row_ranks(low[:, 0]).mean()), float(row_ranks(x[:, 0]).mean())
    assert few < 3.2 < 11 < many <= 12
    torch.testing.assert_close(row_ranks(100 * x[:, 0]), row_ranks(x[:, 0]), rtol=1e-5, atol=0)


def test_collapsed_features_have_rank_one():
    alike = torch.full((9, 6, 8), 0.3)
    np.testing.assert_allclose(patch_ranks(loose(alike)).numpy(), 1)
    np.testing.assert_allclose(row_ranks(alike[:, 0]).numpy(), 1, atol=1e-6)
    np.testing.assert_allclose(row_ranks(0 * alike[:, 0]).numpy(), 1)
