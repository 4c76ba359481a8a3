from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from common.draws import pcg64
from common.errors import BadInput
from evals.fitting.kmeans import kmeans
from evals.protocols.reading import load
from evals.tasks.health.dse import dimension, group_images, mean_distance, measure, ratio, stretched
from evals.tasks.health.patch_grid import Patches
from evals.tasks.health.settings import Health

SETTINGS = load("health-quick", Health, group_size=4, image_clusters=2, group_clusters=6, rounds=100, positions=None)


def scenes(images: int, *, seed: int = 0, width: int = 6) -> Patches:
    """Images of three things out of ten, each with noise and strength of its own; grids of 3 x 4."""
    draw = torch.Generator().manual_seed(seed)
    things = 2 * torch.randn(10, width, generator=torch.Generator().manual_seed(9))
    shown = torch.randint(10, (images, 3), generator=draw)
    places = torch.randint(3, (images, 12), generator=draw)
    noise = torch.randn(images, 12, width, generator=draw) * (0.4 * torch.randn(images, 1, 1, generator=draw)).exp()
    return Patches.in_memory(things[shown.gather(1, places)] + 0.3 * noise, (3, 4))


def plain(patches: Patches, settings: Health) -> tuple[float, float, float]:
    """The terms in float64 loops from their definitions, on the partitions that `kmeans` makes."""
    x = patches.images(range(len(patches))).double().numpy()
    scale = np.mean([np.linalg.norm(patch - x.mean((0, 1))) for image in x for patch in image])
    inter, of_groups, of_images = [], [], []
    for number, group in enumerate(group_images(len(x), settings.group_size, seed=settings.seed)):
        points = x[group.images].reshape(-1, x.shape[2])
        members = partition(points, settings.group_clusters, purpose="k-means of groups", first=number)
        inter += [nearest_other(points, members, i) for i in range(group.own * x.shape[1])]
        of_groups += [spreads(points, members)] * group.own
    order = np.concatenate([g.images[: g.own] for g in group_images(len(x), settings.group_size, seed=settings.seed)])
    for place, image in enumerate(order):
        members = partition(x[image], settings.image_clusters, purpose="k-means of images", first=place)
        of_images.append(spreads(x[image], members))
    intra = np.mean([np.mean(np.concatenate(found)) for found in (of_groups, of_images)])  # over all clusters alike
    permuted = [x[i][pcg64(settings.seed, "positions", i).permutation(x.shape[1])] for i in range(len(x))]
    dims = [rank(np.stack(rows)) / min(len(x), x.shape[2]) for rows in zip(*permuted, strict=True)]
    return float(np.mean(inter) / scale), float(intra / scale), float(np.mean(dims))


def partition(points: np.ndarray, clusters: int, *, purpose: str, first: int) -> np.ndarray:
    x = torch.from_numpy(points).float()[None]
    return kmeans(x, clusters, rounds=100, seed=0, purpose=purpose, first=first).members[0].numpy()


def nearest_other(points: np.ndarray, members: np.ndarray, i: int) -> float:
    others = set(members.tolist()) - {members[i]}
    return min(float(np.linalg.norm(points[i] - points[members == c].mean(0))) for c in others)


def spreads(points: np.ndarray, members: np.ndarray) -> list[float]:
    found = []
    for cluster in set(members.tolist()):
        part = points[members == cluster]
        if len(part) > 1:
            singular = np.linalg.svd(part - part.mean(0), compute_uv=False)
            found.append(singular.sum() / math.sqrt(max(len(part) - 1, points.shape[1])))
    return found


def rank(rows: np.ndarray) -> float:
    singular = np.linalg.svd(rows, compute_uv=False)
    share = singular / singular.sum()
    return math.exp(-sum(float(p) * math.log(p) for p in share if p > 0))


def in_rows(patches: Patches, change: Callable[[torch.Tensor], torch.Tensor]) -> Patches:
    return dataclasses.replace(patches, rows=change(patches.rows[:]))


@pytest.mark.parametrize("images", [8, 12, 10, 3])
def test_terms_equal_plain_loops_over_the_definitions(images: int):
    patches = scenes(images)
    found = measure(patches, SETTINGS)
    inter, intra, dim = plain(patches, SETTINGS)
    assert found.inter.mean() == pytest.approx(inter, rel=1e-5)
    assert found.intra.mean() == pytest.approx(intra, rel=1e-5)
    assert found.dim.mean() == pytest.approx(dim, rel=1e-5)


def test_dse_is_the_weighted_sum_of_its_terms():
    patches = scenes(10)
    found = measure(patches, dataclasses.replace(SETTINGS, dim_weight=3.0))
    assert found.dse.mean() == pytest.approx(found.inter.mean() - found.intra.mean() + 3 * found.dim.mean(), rel=1e-12)


def test_turning_and_scaling_the_features_changes_nothing():
    patches = scenes(8)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(1)))[0]
    first = measure(patches, SETTINGS)
    for other in (in_rows(patches, lambda x: x @ turn), in_rows(patches, lambda x: 8 * x)):
        for one, two in zip(first, measure(other, SETTINGS), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-4)


def test_tight_clusters_score_higher_than_loose_ones():
    draw = torch.Generator().manual_seed(0)
    centres = 3 * torch.eye(6)[torch.arange(96) % 6]
    noise = torch.randn(96, 6, generator=draw)
    tight, loose = (
        measure(Patches.in_memory((centres + s * noise).reshape(8, 12, 6), (3, 4)), SETTINGS) for s in (0.03, 2)
    )
    assert tight.inter.mean() > 1.2 * loose.inter.mean()
    assert tight.intra.mean() < loose.intra.mean() / 2
    assert tight.dse.mean() > loose.dse.mean()


def test_patches_that_are_all_alike_have_no_structure_and_no_nan():
    found = measure(in_rows(scenes(8), lambda x: torch.full_like(x, 0.3)), SETTINGS)
    assert (found.inter == 0).all()
    assert (found.intra == 0).all()
    np.testing.assert_allclose(found.dim, 1 / 6, atol=1e-6)


def test_few_unlike_patches_make_no_nan():
    values = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    found = measure(in_rows(scenes(8), lambda x: values[torch.arange(len(x)) % 2]), SETTINGS)
    assert all(np.isfinite(x).all() for x in found)
    assert found.inter.mean() > 0.5
    assert abs(found.intra.mean()) < 1e-6


def test_groups_are_of_one_size_and_count_every_image_once():
    for count, size in ((16, 8), (19, 8), (5, 8), (9, 8)):
        groups = group_images(count, size, seed=0)
        assert {len(g.images) for g in groups} == {min(count, size)}
        assert sorted(np.concatenate([g.images[: g.own] for g in groups]).tolist()) == list(range(count))
        assert all(len(set(g.images.tolist())) == len(g.images) for g in groups)


def test_fewer_positions_estimate_the_same_dimension():
    patches = scenes(60)
    every, some = (float(dimension(patches, dataclasses.replace(SETTINGS, positions=n)).mean()) for n in (None, 4))
    assert some == pytest.approx(every, rel=0.05)
    assert some != every
    assert float(dimension(patches, dataclasses.replace(SETTINGS, positions=99)).mean()) == every


def test_another_seed_gives_another_partition_and_the_same_one_the_same():
    patches = scenes(12)
    first, again = (measure(patches, SETTINGS) for _ in range(2))
    other = measure(patches, dataclasses.replace(SETTINGS, seed=1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert (first.inter != other.inter).any()
    assert other.dse.mean() == pytest.approx(first.dse.mean(), abs=0.2)


def test_the_mean_distance_is_an_exact_derivative_by_the_weights_of_images():
    patches, step = in_rows(scenes(6), lambda x: x**3), 1e-5
    x = patches.images(range(6)).double().numpy()
    found = mean_distance(patches).numpy()

    def weighted(image: int, step: float) -> float:
        weights = np.full(6, (1 - step) / 6)
        weights[image] += step
        centre = weights @ x.mean(1)
        return float(weights @ np.linalg.norm(x - centre, axis=2).mean(1))

    assert found.mean() == pytest.approx(weighted(0, 0.0), rel=1e-12)
    for image in range(6):
        slope = (weighted(image, step) - weighted(image, -step)) / (2 * step)
        assert found[image] - found.mean() == pytest.approx(slope, rel=1e-4, abs=1e-7)


def test_a_ratio_is_an_exact_derivative_by_the_weights_of_images():
    top, bottom = torch.rand(2, 9, generator=torch.Generator().manual_seed(0)).double()
    found, step = ratio(top, bottom), 1e-5
    assert float(found.mean()) == pytest.approx(float(top.mean() / bottom.mean()), rel=1e-12)
    up, down = (((1 - s) * top.mean() + s * top[2]) / ((1 - s) * bottom.mean() + s * bottom[2]) for s in (step, -step))
    assert float(found[2] - found.mean()) == pytest.approx(float((up - down) / (2 * step)), rel=1e-6)
    assert (ratio(top, torch.zeros(9)) == 0).all()


def test_stretched_group_means_keep_the_mean_and_spread_as_groups_do():
    values = np.random.default_rng(0).random(4000)
    groups = group_images(4000, 8, seed=0)
    found = stretched(values, groups)
    means = np.array([values[g.images].mean() for g in groups])
    assert found.mean() == pytest.approx(values.mean(), rel=1e-12)
    assert found.std() / math.sqrt(4000) == pytest.approx(means.std() / math.sqrt(len(groups)), rel=1e-9)
    uneven = stretched(values[:4], group_images(4, 3, seed=0))
    assert uneven.mean() == pytest.approx(values[:4].mean(), rel=1e-12)


def test_standard_errors_are_those_of_repeated_sets_of_images():
    settings = dataclasses.replace(SETTINGS, rounds=20, positions=3)
    values, errors = [], []
    for seed in range(40):
        found = measure(scenes(32, seed=seed), settings)
        values.append([x.mean() for x in found])
        errors.append([x.var() / 32 for x in found])
    true, told = np.std(values, axis=0), np.sqrt(np.mean(errors, axis=0))
    np.testing.assert_allclose(told, true, rtol=0.35)


def test_more_clusters_than_patches_are_refused():
    with pytest.raises(BadInput, match="12 points"):
        measure(scenes(8), dataclasses.replace(SETTINGS, image_clusters=13))
