from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from common.errors import BadInput
from evals.fitting import kmeans as module
from evals.fitting.kmeans import kmeans, lloyd, nearest, plus_plus


def cloud(groups: int, points: int, width: int, *, seed: int = 0) -> Tensor:
    return torch.randn(groups, points, width, generator=torch.Generator().manual_seed(seed))


def blobs(clusters: int, points: int, *, seed: int = 0, offset: float = 0.0) -> tuple[Tensor, np.ndarray]:
    draw = np.random.default_rng(seed)
    centres = 30 * np.eye(clusters, 24)
    labels = np.arange(points) % clusters
    x = centres[labels] + draw.standard_normal((points, 24)) + offset
    return torch.tensor(x, dtype=torch.float32)[None], labels


def draws(groups: int, clusters: int, *, seed: int = 0) -> Tensor:
    return torch.rand(groups, clusters, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("clusters", [2, 7, 24])
def test_inertia_is_scikit_learns_from_the_same_starts(clusters: int):
    x = cloud(3, 400, 6)
    start = plus_plus(x, draws(3, clusters))
    found = lloyd(x, start, rounds=100)
    for group in range(3):
        theirs = KMeans(clusters, init=start[group].numpy(), n_init=1, max_iter=100, tol=0).fit(x[group].numpy())
        assert float(found.inertia[group]) <= 1.02 * theirs.inertia_
        assert adjusted_rand_score(theirs.labels_, found.members[group]) > 0.9


@pytest.mark.parametrize("offset", [0.0, 3000.0])
def test_blobs_far_apart_are_told_apart_wherever_they_lie(offset: float):
    x, labels = blobs(8, 400, offset=offset)
    found = kmeans(x, 8, rounds=50, seed=0, restarts=5)
    assert adjusted_rand_score(labels, found.members[0]) == 1.0
    means = np.stack([x[0, found.members[0] == c].double().mean(0).numpy() for c in range(8)])
    np.testing.assert_allclose(found.centroids[0].numpy(), means, atol=1e-3 + 1e-6 * offset)


def test_members_inertia_and_centroids_fit_together():
    x = cloud(2, 300, 5)
    found = kmeans(x, 6, rounds=200, seed=0)
    apart = torch.cdist(x.double(), found.centroids.double())
    assert torch.equal(apart.argmin(2), found.members)
    torch.testing.assert_close(apart.min(2).values.square().sum(1), found.inertia, rtol=1e-5, atol=0)
    for cluster in range(6):
        torch.testing.assert_close(x[1, found.members[1] == cluster].mean(0), found.centroids[1, cluster])
    assert torch.equal(nearest(x[0], found.centroids[0]), found.members[0])


def test_more_restarts_and_more_rounds_are_never_worse():
    x = cloud(4, 200, 3)
    once, often = (kmeans(x, 12, rounds=30, seed=1, restarts=r).inertia for r in (1, 6))
    assert (often <= once).all()
    assert (often < once).any()
    short, long = (kmeans(x, 12, rounds=r, seed=1).inertia for r in (1, 30))
    assert (long < short).all()


def test_a_group_is_clustered_alike_beside_whatever_others():
    x = cloud(5, 150, 8)
    together = kmeans(x, 5, rounds=30, seed=3, restarts=2, first=10)
    alone = kmeans(x[2:3], 5, rounds=30, seed=3, restarts=2, first=12)
    assert torch.equal(together.members[2], alone.members[0])
    again, other = (kmeans(x, 5, rounds=30, seed=s, restarts=2, first=10) for s in (3, 4))
    assert torch.equal(again.members, together.members)
    assert not torch.equal(other.members, together.members)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    x = cloud(2, 500, 8)
    whole = kmeans(x, 9, rounds=30, seed=0)
    monkeypatch.setattr(module, "CELLS_PER_BLOCK", 2 * 9 * 64)
    parts = kmeans(x, 9, rounds=30, seed=0)
    assert torch.equal(whole.members, parts.members)
    assert torch.equal(nearest(x[0], parts.centroids[0]), parts.members[0])


def test_the_global_random_state_stays():
    before = torch.get_rng_state()
    kmeans(cloud(1, 50, 2), 3, rounds=5, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


def test_starts_are_drawn_by_squared_distance():
    x = torch.tensor([[[0.0], [1.0], [3.0]]]).expand(20000, -1, -1)
    first, second = plus_plus(x, draws(20000, 2)).unbind(1)
    counts = torch.bincount(first[:, 0].long(), minlength=4)[[0, 1, 3]]
    assert counts.tolist() == pytest.approx([20000 / 3] * 3, rel=0.05)
    after_zero = second[first[:, 0] == 0][:, 0]
    assert (after_zero == 0).sum() == 0
    assert (after_zero == 3).float().mean() == pytest.approx(0.9, abs=0.01)


def test_points_that_are_all_alike_make_one_cluster_and_no_nan():
    found = kmeans(torch.full((2, 50, 4), 0.7), 5, rounds=10, seed=0)
    assert (found.members == found.members[:, :1]).all()
    assert found.centroids.isfinite().all()
    assert found.inertia.tolist() == [0.0, 0.0]


def test_a_cluster_that_runs_empty_moves_to_the_farthest_point():
    x = torch.tensor([[[0.0], [0.1], [10.0], [10.2], [10.1]]])
    start = torch.tensor([[[0.0], [10.0], [50.0]]])
    found = lloyd(x, start, rounds=10)
    assert torch.bincount(found.members[0], minlength=3).tolist().count(0) == 0
    assert float(found.inertia[0]) < 0.04


def test_as_many_clusters_as_points_leave_no_distance():
    found = kmeans(cloud(1, 7, 3), 7, rounds=10, seed=0)
    assert float(found.inertia[0]) == 0.0
    assert sorted(found.members[0].tolist()) == list(range(7))


@pytest.mark.parametrize(("clusters", "rounds", "restarts"), [(6, 10, 1), (0, 10, 1), (2, 0, 1), (2, 10, 0)])
def test_counts_that_do_not_fit_are_refused(clusters: int, rounds: int, restarts: int):
    with pytest.raises(BadInput, match="5 points"):
        kmeans(cloud(1, 5, 2), clusters, rounds=rounds, seed=0, restarts=restarts)
