from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from common.errors import BadInput
from evals.datasets.labelled_set import IGNORE
from evals.judging.pixel_classes import areas, labelled, notes, same_segments, shares_of
from tests.evals.toys import Masks


def test_areas_count_labelled_pixels_by_class_whatever_the_order_of_the_images():
    draw = np.random.default_rng(0)
    masks = [draw.choice([0, 1, 2, IGNORE], (4, 5 + i)).astype(np.uint8) for i in range(4)]
    said = [draw.integers(0, 3, mask.shape) for mask in masks]
    shown: dict[int, np.ndarray] = {}

    def guess(index: int, shape: tuple[int, int]) -> np.ndarray:
        assert shape == masks[index].shape
        return said[index]

    dataset: Any = Masks(masks, "abc")
    found = areas(dataset, ((i, partial(guess, i)) for i in (2, 0, 3, 1)), title="toy", watch=shown.__setitem__)
    assert found["keys"].tolist() == [f"image-{i}" for i in range(4)]
    assert list(shown) == [2, 0, 3, 1]
    for i, (mask, says) in enumerate(zip(masks, said, strict=True)):
        assert shown[i] is says
        known = mask != IGNORE
        for c in range(3):
            assert found["intersect"][i, c] == ((says == c) & (mask == c)).sum()
            assert found["predicted"][i, c] == ((says == c) & known).sum()
            assert found["truth"][i, c] == (mask == c).sum()


def test_classes_that_no_judged_mask_holds_are_told():
    masks = [np.array([[0, 2, IGNORE]], np.uint8), np.array([[2, 2, 2]], np.uint8)]

    def told(names: str) -> list[str]:
        dataset: Any = Masks(masks, names)
        guesses = ((index, lambda shape: np.zeros(shape, int)) for index in range(2))
        return list(notes(dataset, areas(dataset, guesses, title="toy")))

    assert told("abcd") == ["2 of 4 classes are in none of these masks (b, d)"]
    assert told("abcdefgh") == ["6 of 8 classes are in none of these masks (b, d, e and 3 more)"]
    masks[1][0, 0] = 1
    assert told("abc") == []


def test_sets_without_classes_or_with_unlike_ones_are_refused():
    one, other, bare = (Masks([], segments) for segments in ("abc", "ab", ""))
    assert same_segments(one, one) == 3  # pyright: ignore[reportArgumentType]
    for train, test, words in (
        (one, other, r"unlike pixel classes in masks \(3\) and masks \(2\)"),
        (one, bare, "masks without pixel classes"),
        (bare, one, "masks without pixel classes"),
    ):
        with pytest.raises(BadInput, match=words):
            same_segments(train, test)  # pyright: ignore[reportArgumentType]


def test_patch_shares_count_pixels_and_leave_ignored_ones_out():
    mask = np.array([[0, 0, 1, 1], [0, 1, 1, IGNORE]], np.uint8)
    np.testing.assert_allclose(shares_of(mask, (1, 2), 3), [[0.75, 0.25, 0], [0, 0.75, 0]])


def test_a_patch_is_labelled_where_it_has_a_share_of_any_class():
    draw = np.random.default_rng(0)
    for shape, share in (((9, 14), 0.1), ((3, 2), 0.5), ((40, 31), 0.01)):  # also fewer pixels than patches
        mask = np.where(draw.random(shape) < share, draw.integers(0, 3, shape), IGNORE).astype(np.uint8)
        found = labelled(mask, (4, 5))
        assert found.tolist() == (shares_of(mask, (4, 5), 3).sum(1) > 0).tolist()
        assert 0 < found.sum() < 20
