"""k-means over blocks: against a float64 oracle, exact in any split, and its levels and resampling."""

import numpy as np
import pytest
import torch

from common.ranks import Ranks
from harness.curation import kmeans
from harness.curation.hierarchy import cluster
from harness.curation.lowest import Points, lowest
from harness.curation.settings import Level

CPU = torch.device("cpu")
ALONE = Ranks()


def oracle(x, centroids, rounds):
    """Lloyd's rounds in float64, every distance written out."""
    for _ in range(rounds):
        members = ((x[:, None] - centroids[None]) ** 2).sum(2).argmin(1)
        means = [x[members == k].mean(0) if (members == k).any() else centroids[k] for k in range(len(centroids))]
        centroids = np.round(np.stack(means) * 2**24) / 2**24
    return centroids


def test_rounds_are_those_of_a_direct_float64_computation(embedded, blobs):
    x = embedded(blobs(120, 80, 60, spread=0.2))
    rows = x[: len(x)].double().numpy()
    start = x[np.array([0, 130, 210])]
    expected, found = start.double().numpy(), start
    for _ in range(4):
        found = kmeans.means(x, found, ranks=ALONE).centroids
        expected = oracle(rows, expected, 1)
        assert np.array_equal(found.double().numpy(), expected)


def test_the_sum_of_squares_never_grows(embedded, blobs):
    x = embedded(blobs(90, 90, 90, 90, spread=0.3))
    centroids, last = x[np.arange(0, 360, 40)], np.inf
    for _ in range(8):
        following = kmeans.means(x, centroids, ranks=ALONE)
        assert following.inertia <= last
        centroids, last = following.centroids, following.inertia


def test_blocks_of_any_size_give_the_same_bits(embedded, blobs, monkeypatch):
    x = embedded(blobs(150, 120, 33, spread=0.2))
    given = {"rounds": 20, "seed": 3, "purpose": "test", "ranks": ALONE, "device": CPU}
    whole = kmeans.kmeans(x, 7, **given)
    monkeypatch.setattr(kmeans, "CELLS", 32 * 10)  # blocks of ten points
    assert torch.equal(kmeans.kmeans(x, 7, **given), whole)


def test_a_cluster_without_points_moves_to_one_far_from_its_centroid(embedded, blobs):
    x = embedded(blobs(50, 50, spread=0.01))
    centroids = torch.stack([x[:1][0], -3 * x[:100].mean(0)])  # nobody is near the second
    after = kmeans.means(x, centroids, ranks=ALONE)
    assert after.counts.tolist() == [100, 0]
    again = kmeans.means(x, after.centroids, ranks=ALONE)
    assert again.counts.tolist() == [50, 50]


def test_equal_points_leave_no_more_clusters_than_there_are_points(embedded, tmp_path):
    x = embedded(torch.eye(8)[torch.arange(40) % 3])
    found = cluster(x, [Level(clusters=6)], rounds=10, seed=0, home=tmp_path, ranks=ALONE, device=CPU)
    assert sorted(found.levels[0].array("sizes").tolist()) == [13, 13, 14]
    assert sorted(set(found.members[:].tolist())) == [0, 1, 2]


def test_the_lowest_of_each_group_are_those_of_a_full_sort():
    draw = np.random.default_rng(0)
    groups, scores = draw.integers(0, 5, 400), draw.integers(0, 9, 400).astype(float)
    quota = np.array([3, 0, 10, 500, 1])
    parts = [Points(groups[at : at + 64], scores[at : at + 64], np.arange(at, min(at + 64, 400)))
             for at in range(0, 400, 64)]  # fmt: skip
    found = lowest(parts, quota)
    for group, most in enumerate(quota):
        mine = [i for _, i in sorted((scores[i], i) for i in np.flatnonzero(groups == group))][:most]
        assert found.indices[found.groups == group].tolist() == mine


def test_resampling_evens_out_centroids_between_a_dense_and_a_sparse_group(embedded, blobs):
    """A group of 3,000 takes most of the centroids of plain k-means; points nearest to centroids count all alike."""
    x = embedded(blobs(3000, 60, 60, 60, spread=0.12))
    given = {"rounds": 30, "seed": 0, "purpose": "test", "ranks": ALONE}
    plain = kmeans.kmeans(x, 24, device=CPU, **given)
    centroids = plain
    for step in range(4):
        centroids = kmeans.resampled(x, centroids, 3, **{**given, "purpose": f"test/{step}"})
    middle = x[:3000].mean(0)
    dense = [int(((one - middle).square().sum(1) < 0.5).sum()) for one in (plain, centroids)]
    assert dense[1] < dense[0]


def test_each_level_clusters_the_centroids_of_the_one_below(embedded, blobs, tmp_path):
    x = embedded(blobs(*[30] * 8))
    levels = [Level(clusters=40), Level(clusters=8, resamplings=2, closest=3), Level(clusters=2)]
    found = cluster(x, levels, rounds=30, seed=0, home=tmp_path, ranks=ALONE, device=CPU)
    path = found.path(found.members[:])
    assert path.shape == (240, 3)
    for level in (1, 2):
        centroids, above = (found.levels[n].array("centroids") for n in (level - 1, level))
        nearest = ((centroids[:, None] - above[None]) ** 2).sum(2).argmin(1)
        assert np.array_equal(found.parents(level), nearest)
        assert np.array_equal(path[:, level], nearest[path[:, level - 1]])
    assert [len(set(path[at : at + 30, 1])) for at in range(0, 240, 30)] == [1] * 8  # each group is one cluster


@pytest.mark.parametrize("seed", [0, 1])
def test_a_seed_gives_the_same_clusters_and_another_seed_others(embedded, blobs, tmp_path, seed):
    x = embedded(blobs(100, 100, 100, spread=0.4))
    given = {"rounds": 5, "ranks": ALONE, "device": CPU}
    found = [
        cluster(x, [Level(clusters=9)], seed=number, home=tmp_path / name, **given).members[:].tolist()
        for number, name in ((seed, "one"), (seed, "again"), (seed + 1, "other"))
    ]
    assert found[0] == found[1] != found[2]
