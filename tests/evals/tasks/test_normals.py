from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from common.errors import BadInput
from evals.datasets.labelled_set import Surfaces
from evals.datasets.scenes.scenes import Scenes
from evals.features.feature_set import FeatureSet
from evals.features.view import cells
from evals.protocols.reading import load
from evals.results.bootstrap import paired_difference, value
from evals.tasks.normals import QuickNormals, angles, errors, evaluate, notes, patch_targets, predict
from tests.evals.toys import surfaced

GRID = (4, 5)


def settings_of(**changes: float) -> QuickNormals:
    return load("normals-quick", QuickNormals, **changes)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def seen(normals: np.ndarray) -> Surfaces:
    return Surfaces(normals, np.zeros(normals.shape[:2], np.uint8))


def oracle(
    images: int, *, seed: int, pixels: int = 1, shuffle: bool = False, turn: np.ndarray | None = None
) -> FeatureSet:
    """Patches that hold the normal among noise; on larger cells each image faces one way."""
    draw = np.random.default_rng(seed)
    normals = unit(draw.standard_normal((images, *GRID, 3)) - [0, 0, 2])
    if pixels > 1:
        normals[:] = normals[:, :1, :1]
    tokens = np.concatenate([normals.reshape(-1, 3), draw.standard_normal((images * 20, 3))], 1)
    if shuffle:
        tokens = tokens[draw.permutation(len(tokens))]
    if turn is not None:
        normals = (normals @ turn).astype(np.float32)
    return surfaced(tokens, [seen(np.kron(n, np.ones((pixels, pixels, 1), np.float32))) for n in normals], GRID)


@pytest.mark.parametrize("pixels", [1, 8])
def test_an_oracle_is_off_by_nothing(pixels: int):
    found = evaluate(settings_of(l2=1e-9), oracle(50, seed=0, pixels=pixels), oracle(20, seed=1, pixels=pixels))
    assert found["angle"].max() < 1e-3
    assert all((found[name] == 1).all() for name in ("within_11", "within_22", "within_30"))


def test_a_shuffled_oracle_is_no_better_than_the_mean_normal():
    train, test = oracle(60, seed=0, shuffle=True), oracle(60, seed=1)
    mean = np.mean([train.dataset.surfaces(i).normals.mean((0, 1)) for i in range(60)], 0)
    constant = np.mean([angles(test.dataset.surfaces(i).normals, mean).mean() for i in range(60)])
    assert evaluate(settings_of(), train, test)["angle"].mean() == pytest.approx(constant, rel=0.03)


def test_turning_all_cameras_changes_no_angle():
    """Ridge knows no axes: truths turned by any rotation give predictions turned by it."""
    turn, _ = np.linalg.qr(np.random.default_rng(2).standard_normal((3, 3)))
    noisy: dict[str, Any] = {"l2": 1.0}
    plain = evaluate(settings_of(**noisy), oracle(40, seed=0), oracle(20, seed=1))
    turned = evaluate(settings_of(**noisy), oracle(40, seed=0, turn=turn), oracle(20, seed=1, turn=turn))
    assert plain["angle"].mean() > 2
    np.testing.assert_allclose(turned["angle"], plain["angle"], rtol=1e-4)


def test_the_measures_of_chosen_angles():
    degrees = np.array([0.0, 11.0, 11.5, 22.0, 23.0, 29.0, 31.0, 180.0])
    truth = np.broadcast_to(np.float32([0, 0, -1]), (8, 3))
    turned = np.stack([np.sin(np.radians(degrees)), np.zeros(8), -np.cos(np.radians(degrees))], -1).astype(np.float32)
    np.testing.assert_allclose(angles(turned, truth), degrees, atol=1e-4)
    found = errors(turned, truth)
    assert found.pop("angle") == pytest.approx(degrees.mean(), abs=1e-4)
    assert found == {"within_11": 2 / 8, "within_22": 4 / 8, "within_30": 6 / 8}
    assert angles(np.zeros((1, 3), np.float32), truth[:1]) == 90


def test_angles_are_those_of_the_arc_cosine_in_float64():
    draw = np.random.default_rng(0)
    one, other = unit(draw.standard_normal((500, 3))), unit(draw.standard_normal((500, 3)))
    cosine = (one.astype(float) * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    np.testing.assert_allclose(angles(one, other), np.degrees(np.arccos(cosine)), atol=1e-4)


def test_a_patch_is_taught_the_mean_normal_of_its_cell_and_weighs_as_much_as_is_known():
    normals = Scenes(size=30, count=1).surfaces(0).normals
    normals[:7] = 0
    target, weight = patch_targets(normals, GRID)
    cell = cells((30, 30), GRID)
    for patch in range(20):
        inside = normals[cell == patch]
        known = inside[inside.any(1)]
        assert weight[patch] == pytest.approx(len(known) / len(inside))
        if len(known):
            np.testing.assert_allclose(target[patch], known.mean(0), atol=1e-6)
    assert (weight == 0).any()
    assert np.linalg.norm(target, axis=1).min() < 0.9


def test_predictions_are_interpolated_before_they_are_brought_to_unit_length():
    said = torch.tensor([[2.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    found = predict(said, (1, 2), (3, 8))
    expected = unit(np.array([[2 * (1 - x), 0, -x] for x in np.clip((np.arange(8) + 0.5) / 4 - 0.5, 0, 1)]))
    np.testing.assert_allclose(found, np.broadcast_to(expected, (3, 8, 3)), atol=1e-6)
    assert not predict(torch.zeros(2, 3), (1, 2), (2, 2)).any()


def test_unknown_pixels_count_nowhere_and_images_without_a_known_one_are_told():
    train, test = oracle(50, seed=0), oracle(6, seed=1)
    known: Any = test.dataset
    known.known[2].normals[:] = 0
    known.known[4].normals[0] = 0
    watched: dict[int, np.ndarray] = {}
    found = evaluate(settings_of(l2=1e-9), train, test, watch=watched.__setitem__)
    assert found["keys"].tolist() == ["image-0", "image-1", "image-3", "image-4", "image-5"]
    assert found["angle"].max() < 1e-3
    assert list(notes(test.dataset, found)) == ["images without a known normal are left out: 1"]
    assert np.isnan(watched[4][0]).all()
    np.testing.assert_allclose(np.linalg.norm(watched[4][1:], axis=-1), 1, atol=1e-6)
    with pytest.raises(BadInput, match=r"got no known normal in seen \(val\): want unit vectors"):
        evaluate(settings_of(), surfaced(np.eye(20), [seen(np.zeros((4, 5, 3), np.float32))], GRID), test)


def test_values_are_means_over_images_that_resample_in_pairs():
    train, test = oracle(50, seed=0), oracle(30, seed=1)
    good, bad = (evaluate(settings_of(l2=l2), train, test) for l2 in (1e-6, 10.0))
    assert value("angle", bad) == pytest.approx(bad["angle"].mean(), rel=1e-12)
    worse = paired_difference("angle", good, bad)
    assert worse.low > 0
    assert worse.value == pytest.approx(bad["angle"].mean() - good["angle"].mean())
