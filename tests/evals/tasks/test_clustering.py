from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import BadInput
from evals.datasets.catalogue import open_set
from evals.datasets.labelled_set import IGNORE
from evals.features.feature_set import FeatureSet
from evals.protocols.reading import load
from evals.results.bootstrap import interval
from evals.tasks.clustering import Clustering, confusion, evaluate, match, metrics, sample
from tests.evals.toys import featured


def oracle(images: int, *, pixels: int, seed: int = 0, shuffle: bool = False) -> FeatureSet:
    """Patches near the axis of their class, at any length, under masks that are constant on each of them."""
    draw = np.random.default_rng(seed)
    maps = draw.integers(0, 4, (images, 5, 6))
    tokens = np.eye(4)[[2, 0, 3, 1]][maps.reshape(-1)] + 0.05 * draw.standard_normal((images * 30, 4))
    tokens *= draw.uniform(0.1, 9, (images * 30, 1))
    if shuffle:
        tokens = tokens[draw.permutation(len(tokens))]
    return featured(tokens, [(5, 6)] * images, [np.kron(m, np.ones((pixels, pixels))).astype(np.uint8) for m in maps])


def protocol(**changes: Any) -> Clustering:
    return load("clustering-quick", Clustering, **changes)


def score(test: FeatureSet, **changes: Any) -> float:
    return interval("miou", evaluate(protocol(**changes), test), resamples=100).value


@pytest.mark.parametrize("pixels", [1, 8])
def test_an_oracle_scores_one_whatever_the_length_of_its_patches(pixels: int):
    assert score(oracle(12, pixels=pixels)) == 1.0
    assert score(oracle(12, pixels=pixels), max_patches=60) == 1.0


def test_a_shuffled_oracle_scores_chance():
    assert score(oracle(80, pixels=1, shuffle=True)) < 0.2  # independent guesses have 1 / 7


def test_the_matching_gets_most_pixels_right_of_all_permutations():
    for seed in range(20):
        pixels = np.random.default_rng(seed).integers(0, 100, (5, 5))
        best = max(sum(pixels[k, c] for k, c in enumerate(order)) for order in permutations(range(5)))
        assert pixels[np.arange(5), match(pixels)].sum() == best


def test_confusion_counts_labelled_pixels_by_the_patch_over_them():
    mask = np.array([[0, 0, 1, IGNORE], [0, 2, 2, 1]], np.uint8)
    features = featured(np.eye(2), [(1, 2)], [mask], "abc")
    found = confusion(features, [np.array([2, 0])], 3)
    assert found.tolist() == [[0, 2, 1], [0, 0, 0], [3, 0, 1]]


def test_areas_are_those_of_the_matched_clusters_which_a_watcher_is_shown():
    test = oracle(9, pixels=4, shuffle=True)
    test.dataset.mask(0)[:5] = IGNORE
    shown: dict[int, np.ndarray] = {}
    found = evaluate(protocol(), test, watch=lambda index, guess: shown.update({index: guess}))
    for index in range(9):
        mask = test.dataset.mask(index)
        known = mask != IGNORE
        assert found["truth"][index].tolist() == np.bincount(mask[known], minlength=4).tolist()
        assert found["predicted"][index].tolist() == np.bincount(shown[index][known], minlength=4).tolist()
        assert found["intersect"][index].sum() == (shown[index] == mask)[known].sum()
    assert found["intersect"].sum() >= found["truth"].sum() / 4  # the worst that a best matching can do


def test_images_of_unlike_grids_and_sizes_go_together():
    draw = np.random.default_rng(0)
    grids = [(3, 4), (5, 2), (2, 2)] * 6
    maps = [draw.integers(0, 3, grid) for grid in grids]
    tokens = np.concatenate([np.eye(3)[m.reshape(-1)] for m in maps])
    masks = [np.kron(m, np.ones((4 + i % 3, 5))).astype(np.uint8) for i, m in enumerate(maps)]
    assert score(featured(tokens, grids, masks, "abc")) == 1.0


def test_the_sample_has_unit_length_and_takes_as_many_of_each_image():
    test = oracle(10, pixels=1)
    found = sample(test, most=50)
    assert found.shape == (50, 4)
    np.testing.assert_allclose(found.norm(dim=1), 1, rtol=1e-6)
    own = torch.nn.functional.normalize(test.patches(3), dim=1)
    assert sum(bool((own == row).all(1).any()) for row in found) == 5
    assert len(sample(test, most=10**6)) == 300


def test_results_repeat_and_the_global_random_state_stays():
    test = oracle(9, pixels=2, shuffle=True)
    before = torch.get_rng_state()
    first, second = (evaluate(protocol(), test) for _ in range(2))
    assert all((first[name] == second[name]).all() for name in first)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("change", [{"seed": 1}, {"restarts": 25}, {"rounds": 2}, {"max_patches": 40}])
def test_every_setting_counts(change: dict[str, int]):
    noise = featured(np.random.default_rng(0).standard_normal((270, 4)), [(5, 6)] * 9, [np.eye(8, dtype=np.uint8)] * 9)
    one, other = (evaluate(protocol(**{"restarts": 1, **more}), noise)["predicted"] for more in ({}, change))
    assert (one != other).any()


def test_the_protocol_that_ships_beats_a_constant_guess_on_rendered_rooms():
    rooms = open_set("scenes", split="val", size=32, count=12)
    images = torch.stack([torch.from_numpy(rooms.image(i)).float() for i in range(12)])
    patches = images.reshape(12, 8, 4, 8, 4, 3).mean((2, 4)).reshape(-1, 3) / 128 - 1
    found = evaluate(protocol(), FeatureSet.in_memory(
        rooms, patches[:12], tokens=patches, grids=torch.tensor([[8, 8]] * 12)
    ))  # fmt: skip
    values = {name: interval(name, found, resamples=50).value for name in metrics(protocol())}
    areas = found["truth"].sum(0)
    assert values["miou"] > areas.max() / areas.sum() / np.count_nonzero(areas)
    assert all(0 < value < 1 for value in values.values())


@pytest.mark.parametrize("change", [{"max_patches": 0}, {"rounds": 0}, {"restarts": -1}, {"size": 0}])
def test_settings_that_cannot_be_are_refused(change: dict[str, int]):
    with pytest.raises(BadInput, match=rf"^clustering-quick: {next(iter(change))}(\[\d\])?=.*: want "):
        protocol(**change)


def test_input_that_does_not_fit_is_refused():
    mask = np.zeros((2, 2), np.uint8)
    with pytest.raises(BadInput, match="without pixel classes"):
        evaluate(protocol(), featured(np.eye(4)[:1], [(1, 1)], [mask], ""))
    with pytest.raises(BadInput, match=r"got 4 clusters, .* for 1 points"):
        evaluate(protocol(), featured(np.eye(4)[:1], [(1, 1)], [mask]))
    bare = FeatureSet.in_memory(featured(np.eye(4), [(2, 2)], [mask]).dataset, torch.eye(4)[:1])
    with pytest.raises(BadInput, match="without patches"):
        evaluate(protocol(), bare)
