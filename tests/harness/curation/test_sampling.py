"""Balanced sampling: the cap, its recursion, who is taken, and how even it makes a pool that is 50 : 1."""

import numpy as np
import pytest
import torch

from common.ranks import Ranks
from harness.curation.duplicates import Dropped, drop
from harness.curation.hierarchy import cluster
from harness.curation.sampling import capped, quotas, sample
from harness.curation.settings import Clustering, Level

CPU = torch.device("cpu")
ALONE = Ranks()


@pytest.mark.parametrize("seed", range(20))
def test_the_cap_is_the_one_whose_sum_is_closest_to_the_target(seed):
    draw = np.random.default_rng(seed)
    sizes = draw.integers(0, 60, draw.integers(1, 9))
    target = int(draw.integers(0, sizes.sum() + 10))
    off = [abs(int(np.minimum(sizes, n).sum()) - target) for n in range(62)]
    assert abs(int(capped(sizes, target).sum()) - target) == min(off)
    assert np.array_equal(capped(sizes, target), np.minimum(sizes, capped(sizes, target).max(initial=0)))


def test_shares_go_down_the_tree_by_the_same_rule():
    """Two nodes of 20 and 1,000 images share 60 as 20 and 40; the second's children of 2, 8, 990 as 2, 8 and 30."""
    sizes = np.array([20, 2, 8, 990])
    parents = [np.array([0, 1, 1, 1]), np.array([0, 0])]
    assert quotas(sizes, parents, 60, seed=0).tolist() == [20, 2, 8, 30]


def test_where_one_image_of_each_child_is_too_many_some_children_give_one():
    found = quotas(np.full(50, 9), [np.zeros(50, int)], 7, seed=0)
    assert found.sum() == 7
    assert found.max() == 1
    assert found.tolist() != quotas(np.full(50, 9), [np.zeros(50, int)], 7, seed=1).tolist()


def test_a_target_of_all_takes_all():
    sizes = np.array([3, 100, 7])
    assert quotas(sizes, [np.array([0, 0, 1]), np.array([0, 0])], 110, seed=0).tolist() == [3, 100, 7]


@pytest.fixture(params=[0, 1, 2])
def clustered(request, embedded, blobs, tmp_path):
    """A pool of ten groups, 50 : 1, with its hierarchy, nothing dropped."""
    sizes = [1000, *[20] * 9]
    x = embedded(blobs(*sizes, spread=0.1))
    levels = [Level(clusters=60, resamplings=5, closest=5), Level(clusters=15, resamplings=10, closest=3)]
    found = cluster(x, levels, rounds=50, seed=request.param, home=tmp_path, ranks=ALONE, device=CPU)
    stage, dropped = drop(x, found, None, home=tmp_path, ranks=ALONE)
    return found, stage.address, dropped, np.repeat(np.arange(10), sizes)


def sampled(clustered, home, *, target=120, members="random", seed=0):
    found, after, dropped, _ = clustered
    settings = Clustering(target=target, members=members)
    return sample(found, dropped, settings, seed=seed, home=home, after=after, ranks=ALONE).images


def test_a_pool_of_50_to_1_comes_out_at_most_3_to_1(clustered, tmp_path):
    counts = np.bincount(clustered[3][sampled(clustered, tmp_path)], minlength=10)
    assert counts.max() <= 3 * counts.min()
    assert abs(counts.sum() - 120) <= 20


def test_the_closest_are_the_nearest_of_each_cluster_and_the_drawn_ones_follow_the_seed(clustered, tmp_path):
    closest = sampled(clustered, tmp_path, members="closest")
    members, apart = clustered[0].members[:], clustered[0].apart[:]
    for cluster_ in np.unique(members[closest]):
        mine = np.flatnonzero(members == cluster_)
        taken = np.intersect1d(mine, closest)
        assert apart[taken].max() <= np.delete(apart[mine], np.searchsorted(mine, taken)).min(initial=np.inf)
    drawn = sampled(clustered, tmp_path)
    assert np.array_equal(drawn, sampled(clustered, tmp_path / "again"))
    assert not np.array_equal(drawn, sampled(clustered, tmp_path, seed=1))
    assert not np.array_equal(drawn, closest)


def test_what_is_dropped_is_never_sampled(clustered, tmp_path):
    found, _, _, _ = clustered
    out = np.arange(0, 1180, 2)
    dropped = Dropped(out, out, np.ones(len(out)))
    settings = Clustering(target=500)
    got = sample(found, dropped, settings, seed=0, home=tmp_path, after="half", ranks=ALONE)
    assert not set(got.images) & set(out)
    assert got.sizes.sum() == 590
