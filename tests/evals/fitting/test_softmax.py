from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression

from evals.fitting.softmax import solve


def test_the_head_equals_scikit_learns_logistic_regression():
    draw = np.random.default_rng(0)
    x, labels = draw.standard_normal((400, 7)), draw.integers(0, 3, 400)
    x[:, 0] += labels
    l2 = 0.01
    theirs = LogisticRegression(C=1 / (400 * l2), tol=1e-10, max_iter=5000).fit(x, labels)
    shares = torch.tensor(np.eye(3)[labels])
    weight, bias = solve(torch.tensor(x), shares, l2=l2, iterations=200)
    ours = (torch.tensor(x) @ weight + bias).softmax(1)
    np.testing.assert_allclose(ours.numpy(), theirs.predict_proba(x), atol=1e-4)


def test_soft_shares_and_partly_ignored_patches_weigh_what_they_should():
    x = torch.ones(3, 1, dtype=torch.float64)
    shares = torch.tensor([[0.75, 0.25], [0.5, 0.0], [0.0, 0.0]], dtype=torch.float64)
    weight, bias = solve(x, shares, l2=1.0, iterations=100)
    probability = (x @ weight + bias).softmax(1)[0]
    np.testing.assert_allclose(probability.numpy(), [1.25 / 1.5, 0.25 / 1.5], atol=1e-5)


def test_of_two_classes_it_is_logistic_regression_with_half_the_penalty():
    draw = np.random.default_rng(1)
    x, holds = draw.standard_normal((300, 5)), draw.random(300) < 0.3
    x[:, 0] += holds
    l2 = 0.02
    theirs = LogisticRegression(C=2 / (300 * l2), tol=1e-10, max_iter=5000).fit(x, holds)
    shares = torch.tensor(np.stack([~holds, holds], 1).astype(float))
    weight, bias = solve(torch.tensor(x), shares, l2=l2, iterations=200)
    np.testing.assert_allclose((weight[:, 1] - weight[:, 0]).numpy(), theirs.coef_[0], atol=1e-4)
    np.testing.assert_allclose(float(bias[1] - bias[0]), theirs.intercept_[0], atol=1e-4)
