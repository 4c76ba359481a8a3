from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import Ridge

from evals.fitting.ridge import ridge


def test_the_head_equals_scikit_learns_ridge_and_the_normal_equations():
    draw = np.random.default_rng(0)
    x, y, weight = draw.standard_normal((300, 8)) + 2, draw.standard_normal((300, 3)), draw.random(300)
    slope, bias = ridge(*(torch.tensor(a) for a in (x, y, weight)), l2=0.05, block=64)
    theirs = Ridge(alpha=0.05 * weight.sum(), solver="cholesky").fit(x, y, sample_weight=weight)
    np.testing.assert_allclose(slope.numpy(), theirs.coef_.T, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(bias.numpy(), theirs.intercept_, rtol=1e-5)
    wide = np.concatenate([x, np.ones((300, 1))], 1)
    penalty = 0.05 * weight.sum() * np.diag([*np.ones(8), 0])
    solved = np.linalg.solve(wide.T @ (weight[:, None] * wide) + penalty, wide.T @ (weight[:, None] * y))
    np.testing.assert_allclose(np.concatenate([slope, bias[None]]), solved, rtol=1e-5, atol=1e-7)


def test_several_targets_are_solved_as_each_alone():
    draw = torch.Generator().manual_seed(0)
    x, y, weight = torch.randn(200, 5, generator=draw), torch.randn(200, 3, generator=draw), torch.rand(200)
    slope, bias = ridge(x, y, weight, l2=0.1)
    for column in range(3):
        one, at = ridge(x, y[:, [column]], weight, l2=0.1)
        torch.testing.assert_close(slope[:, [column]], one)
        torch.testing.assert_close(bias[[column]], at)


def test_a_weight_counts_as_often_as_the_row_would():
    draw = torch.Generator().manual_seed(1)
    x, y = torch.randn(40, 4, generator=draw), torch.randn(40, 2, generator=draw)
    times = torch.arange(40) % 3
    weighted = ridge(x, y, times.float(), l2=0.1)
    repeated = ridge(x.repeat_interleave(times, 0), y.repeat_interleave(times, 0), torch.ones(int(times.sum())), l2=0.1)
    for one, other in zip(weighted, repeated, strict=True):
        torch.testing.assert_close(one, other)
