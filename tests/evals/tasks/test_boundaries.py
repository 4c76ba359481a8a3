from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from common.errors import BadInput
from evals.datasets.labelled_set import Surfaces
from evals.datasets.scenes.scenes import Scenes
from evals.features.feature_set import FeatureSet
from evals.protocols.reading import load
from evals.results.bootstrap import paired_difference, value
from evals.tasks.boundaries import (
    QuickBoundaries,
    average_precision,
    boundary_cells,
    evaluate,
    notes,
    training_patches,
)
from tests.evals.toys import surfaced

GRID = (4, 5)


def settings_of(**changes: float) -> QuickBoundaries:
    return load("boundaries-quick", QuickBoundaries, **changes)


def seen(parts: np.ndarray) -> Surfaces:
    return Surfaces(np.zeros((*parts.shape, 3), np.float32), parts.astype(np.uint8))


def oracle(images: int, *, seed: int, noise: float = 0.0) -> FeatureSet:
    """Cells of 3 x 3 pixels, of some of which one pixel is another part; the first feature says which, with noise."""
    draw = np.random.default_rng(seed)
    holds = draw.random((images, *GRID)) < 0.3
    holds[:, 0, :2] = (True, False)
    spot = np.zeros((3, 3))
    spot[1, 2] = 1
    told = holds.reshape(-1, 1) + noise * draw.standard_normal((holds.size, 1))
    tokens = np.concatenate([told, draw.standard_normal((holds.size, 2))], 1)
    return surfaced(tokens, [seen(np.kron(one, spot)) for one in holds], GRID)


def brute_force(parts: np.ndarray, grid: tuple[int, int]) -> list[bool | None]:
    """For each patch whether two pixels whose centres lie under it are of unlike parts; None where it has no pixel."""
    (height, width), (rows, columns) = parts.shape, grid
    found: list[bool | None] = []
    for row in range(rows):
        for column in range(columns):
            inside = {
                int(parts[y, x])
                for y in range(height)
                for x in range(width)
                if row <= (y + 0.5) * rows / height < row + 1 and column <= (x + 0.5) * columns / width < column + 1
            }
            found.append(len(inside) > 1 if inside else None)
    return found


@pytest.mark.parametrize(("size", "grid"), [(24, (6, 6)), (30, (4, 5)), (17, (5, 3)), (12, (16, 16)), (16, (16, 16))])
def test_a_boundary_runs_through_the_cells_that_hold_pixels_of_several_parts(size: int, grid: tuple[int, int]):
    for index in range(3):
        parts = Scenes("val", size=size, count=3).surfaces(index).parts
        expected = brute_force(parts, grid)
        counted, holds = boundary_cells(parts, grid)
        assert counted.tolist() == [one is not None for one in expected]
        assert holds.tolist() == [one for one in expected if one is not None]


def test_a_line_along_the_border_of_two_cells_is_in_neither():
    parts = np.zeros((4, 8), np.uint8)
    parts[:, 4:] = 9
    assert not boundary_cells(parts, (1, 2))[1].any()
    parts[0, 3] = 9
    assert boundary_cells(parts, (1, 2))[1].tolist() == [True, False]


def test_numbers_of_parts_mean_nothing_beyond_same_and_other():
    parts = Scenes(size=40, count=1).surfaces(0).parts
    other = np.random.default_rng(0).permutation(256).astype(np.uint8)[parts]
    for one, two in zip(boundary_cells(parts, (5, 5)), boundary_cells(other, (5, 5)), strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("levels", [2, 5, 1000])
def test_average_precision_is_scikit_learns_with_and_without_equal_scores(levels: int):
    draw = np.random.default_rng(levels)
    for _ in range(50):
        truth = draw.random(40) < 0.3
        truth[7] = True
        scores = draw.integers(0, levels, 40) / levels + 0.1 * truth * (levels > 2)
        assert average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores), abs=1e-12)


def test_an_oracle_orders_all_patches_rightly_and_scale_and_order_of_features_are_nothing():
    train, test = oracle(40, seed=0), oracle(20, seed=1)
    assert (evaluate(settings_of(), train, test)["boundary_ap"] == 1).all()
    noisy = [oracle(n, seed=s, noise=0.7) for n, s in ((40, 0), (20, 1))]
    plain = evaluate(settings_of(), *noisy)["boundary_ap"]
    assert 0.4 < plain.mean() < 0.95
    changed = [
        surfaced(one.dense()[:].numpy()[:, ::-1] * 100 + 7, [one.dataset.surfaces(i) for i in range(len(one))], GRID)
        for one in noisy
    ]
    np.testing.assert_allclose(evaluate(settings_of(), *changed)["boundary_ap"], plain, atol=0.02)


def test_a_constant_patch_gets_the_share_of_cells_with_a_boundary():
    train, test = oracle(20, seed=0), oracle(20, seed=1)
    blind = surfaced(np.ones((400, 3)), [test.dataset.surfaces(i) for i in range(20)], GRID)
    found = evaluate(settings_of(), train, blind)
    np.testing.assert_allclose(found["boundary_ap"], found["boundary_cells"] / found["cells"])
    share = (found["boundary_cells"] / 20).mean()
    told = f"a boundary runs through {share:.2%} of the cells of an image: about what an order by chance gets"
    assert list(notes(blind.dataset, found)) == [told]


def test_images_with_nothing_to_tell_apart_are_left_out_and_told():
    test = oracle(6, seed=1)
    known: Any = test.dataset
    known.known[1].parts[:] = 3
    known.known[4].parts[:] = np.indices((12, 15)).sum(0) % 2
    found = evaluate(settings_of(), oracle(20, seed=0), test)
    assert found["keys"].tolist() == ["image-0", "image-2", "image-3", "image-5"]
    assert list(notes(test.dataset, found))[1] == "images with a boundary in no cell, or in every one, are left out: 2"
    flat = surfaced(np.ones((20, 3)), [seen(np.zeros((12, 15)))], GRID)
    for pair in ((flat, test), (test, flat)):
        with pytest.raises(BadInput, match=r"in none of the cells of seen \(val\), or in all: want some of both"):
            evaluate(settings_of(), *pair)


def test_patches_beyond_the_limit_are_left_out_evenly():
    train = oracle(11, seed=0)
    for most in (30, 219, 220, 500):
        x, holds = training_patches(train, most=most)
        taken = min(most, 220)
        places = np.arange(taken) * 220 // taken
        np.testing.assert_array_equal(x.numpy(), train.dense()[:].numpy()[places])
        np.testing.assert_array_equal(holds, x.numpy()[:, 0] == 1)


def test_who_watches_is_told_a_probability_for_each_cell():
    watched: dict[int, np.ndarray] = {}
    evaluate(settings_of(), oracle(40, seed=0), oracle(3, seed=1), watch=watched.__setitem__)
    assert sorted(watched) == [0, 1, 2]
    test = oracle(3, seed=1)
    for index, guess in watched.items():
        assert guess.shape == GRID
        _, holds = boundary_cells(test.dataset.surfaces(index).parts, GRID)
        np.testing.assert_array_equal(guess.ravel() > 0.5, holds)


def test_values_are_means_over_images_that_resample_in_pairs():
    test = [oracle(30, seed=1, noise=noise) for noise in (0.3, 1.5)]
    good, bad = (evaluate(settings_of(), oracle(40, seed=0, noise=0.3), one) for one in test)
    assert value("boundary_ap", bad) == bad["boundary_ap"].mean()
    assert paired_difference("boundary_ap", bad, good).low > 0
