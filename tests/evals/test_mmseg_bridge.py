from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from evals import mmseg_bridge
from evals.mmseg_bridge import DepthViews, SegmentationViews, depth_view, resize_depth, resize_short, segmentation_view


def test_areas_equal_a_plain_count():
    draw = np.random.default_rng(0)
    guess, truth = draw.integers(0, 4, (13, 17)), draw.integers(0, 4, (13, 17)).astype(np.uint8)
    truth[:3] = 255
    found = mmseg_bridge.intersect_and_union(guess, truth, num_classes=5)
    known = truth != 255
    for c in range(5):
        g, t = (guess == c) & known, (truth == c) & known
        assert [int(area[c]) for area in found] == [(g & t).sum(), g.sum(), t.sum()]


def test_tensors_and_arrays_give_the_same_areas():
    guess, truth = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 1], [0, 7]])
    tensors = mmseg_bridge.intersect_and_union(guess, truth, num_classes=2, ignore_index=7)
    arrays = mmseg_bridge.intersect_and_union(guess.numpy(), truth.numpy(), num_classes=2, ignore_index=7)
    np.testing.assert_array_equal(tensors, arrays)
    np.testing.assert_array_equal(tensors, [[1, 1], [1, 2], [2, 1]])


def test_ade20k_has_its_150_classes():
    classes = mmseg_bridge.ade20k_classes()
    assert len(classes) == 150
    assert classes[:3] == ("wall", "building", "sky")
    assert all(name == name.strip() for name in classes)
    assert "classes" in mmseg_bridge.definition("NYUDataset")


def test_the_stand_in_for_compiled_operations_refuses_to_run():
    mmseg_bridge.ade20k_classes()
    ops = sys.modules["mmcv.ops"]
    if ops.__file__ != mmseg_bridge.__file__:
        pytest.skip("a real mmcv with compiled operations is installed and in use")
    with pytest.raises(RuntimeError, match="point_sample needs compiled operations"):
        ops.point_sample(1)  # pyright: ignore


PLAIN = SegmentationViews(
    short_side=32, scale=(1.0, 1.0), crop=24, category_cap=0.75, flip=0.5, brightness=0, contrast=(1.0, 1.0),
    saturation=(1.0, 1.0), hue=1,
)  # fmt: skip
COLOURS = replace(PLAIN, brightness=32, contrast=(0.5, 1.5), saturation=(0.5, 1.5), hue=18)
TURNED = DepthViews(rotate=1.0, degrees=2.5, flip=0.5, crop=(20, 30))


def painted(shape: tuple[int, int] = (32, 48), seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A grey image, on which colours act alike, and the mask that its brightness names."""
    mask = np.random.default_rng(seed).integers(0, 20, shape).astype(np.uint8)
    return np.repeat(10 * mask[:, :, None], 3, axis=2), mask


def test_views_of_an_image_and_its_mask_show_the_same_pixels():
    image, mask = painted()
    views = [segmentation_view(image, mask, PLAIN, seed=seed) for seed in range(12)]
    assert all(np.array_equal(one[:, :, 0], 10 * other) for one, other in views)
    assert all(other.shape == (24, 24) for _, other in views)
    assert len({other.tobytes() for _, other in views}) > 8


def test_views_are_drawn_by_the_seed_alone_and_leave_the_global_random_states():
    image, mask = painted()
    depth = mask.astype(np.float32)
    states = [np.random.get_state()[1].copy(), random.getstate(), torch.get_rng_state()]  # noqa: NPY002
    first = [segmentation_view(image, mask, COLOURS, seed=s)[0] for s in (1, 2)]
    depths = [depth_view(image, depth, TURNED, seed=s)[1] for s in (1, 2)]
    assert np.array_equal(states[0], np.random.get_state()[1])  # noqa: NPY002
    assert states[1] == random.getstate()
    assert torch.equal(states[2], torch.get_rng_state())
    np.random.seed(5)  # noqa: NPY002
    np.testing.assert_array_equal(first[1], segmentation_view(image, mask, COLOURS, seed=2)[0])
    np.testing.assert_array_equal(depths[1], depth_view(image, depth, TURNED, seed=2)[1])
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(depths[0], depths[1])


def test_views_are_cut_and_mirrored_as_recorded():
    """Rows and columns as targets tell of each view: its first row, its first and its last column."""
    rows, columns = np.mgrid[:32, :48].astype(np.uint8)
    image, anywhere, still = painted()[0], replace(PLAIN, category_cap=1.0), replace(TURNED, rotate=0.0)

    def cuts(view: Callable[..., tuple[np.ndarray, np.ndarray]], views: object) -> list[tuple[int, int, int]]:
        found = [[view(image, target, views, seed=seed)[1] for target in (rows, columns)] for seed in range(4)]
        return [(int(row[0, 0]), int(column[0, 0]), int(column[0, -1])) for row, column in found]

    assert cuts(segmentation_view, anywhere) == [(2, 23, 0), (8, 31, 8), (8, 42, 19), (3, 38, 15)]
    assert cuts(depth_view, still) == [(12, 34, 5), (12, 29, 0), (7, 40, 11), (7, 10, 39)]


def test_the_given_image_and_mask_stay_as_they_were():
    image, mask = painted()
    depth = mask.astype(np.float32)
    before = image.copy(), mask.copy(), depth.copy()
    for seed in range(4):
        segmentation_view(image, mask, COLOURS, seed=seed)
        depth_view(image, depth, TURNED, seed=seed)
    assert all(np.array_equal(one, other) for one, other in zip(before, (image, mask, depth), strict=True))


def test_the_short_side_is_scaled_and_a_view_smaller_than_the_crop_stays_small():
    image, mask = painted((40, 80))
    for factor, shape in ((0.5, (16, 24)), (1.0, (24, 24))):
        found, other = segmentation_view(image, mask, replace(PLAIN, scale=(factor, factor)), seed=0)
        assert found.shape == (*shape, 3)
        assert other.shape == shape


def test_no_class_fills_more_than_its_cap_of_a_crop_where_that_can_be_had():
    mask = np.zeros((32, 96), dtype=np.uint8)
    mask[:, 80:] = 1
    image = np.repeat(mask[:, :, None], 3, axis=2)
    shares = [
        [(segmentation_view(image, mask, replace(PLAIN, category_cap=cap), seed=s)[1] == 0).mean() for s in range(30)]
        for cap in (1.0, 0.75)
    ]
    assert np.mean(np.array(shares[0]) < 0.75) < np.mean(np.array(shares[1]) < 0.75)


def test_hues_are_turned_on_red_green_blue_as_they_are():
    """mmsegmentation draws from [-hue, hue): with 1, hues turn back by two degrees or not at all, red towards pink."""
    red, mask = np.full((32, 32, 3), (255, 0, 0), dtype=np.uint8), np.zeros((32, 32), dtype=np.uint8)
    found = {tuple(segmentation_view(red, mask, PLAIN, seed=s)[0][0, 0].tolist()) for s in range(40)}
    assert (255, 0, 0) in found
    turned = found - {(255, 0, 0)}
    assert turned
    assert all(r == 255 and g == 0 and 0 < b < 20 for r, g, b in turned)


def test_turned_views_show_image_and_depth_in_one_place_and_corners_of_unknown_depth():
    yy, xx = np.mgrid[:60, :80]
    depth = (1 + (yy // 12) + 10 * (xx // 16)).astype(np.float32)
    image = np.repeat(depth.astype(np.uint8)[:, :, None], 3, axis=2)
    whole = replace(TURNED, crop=(60, 80), degrees=10.0)
    for seed in range(6):
        found, other = depth_view(image, depth, whole, seed=seed)
        assert found.shape == (60, 80, 3)
        assert (other[[0, 0, -1, -1], [0, -1, 0, -1]] == 0).any()
        same = np.abs(found[:, :, 0] - other) < 0.5
        assert same.mean() > 0.75  # all but the edges, where the image is interpolated and depth is not
    still = replace(TURNED, rotate=0.0)
    found, other = depth_view(image, depth, still, seed=0)
    assert found.shape == (20, 30, 3)
    assert np.array_equal(found[:, :, 0], other)


def test_resizing_keeps_the_aspect_and_never_mixes_unknown_depth():
    image, mask = painted((30, 47))
    assert resize_short(image, 60).shape == (60, 94, 3)
    assert np.array_equal(resize_short(image, 30), image)
    depth = np.where(mask > 10, 4.0, 0.0).astype(np.float32)
    assert set(np.unique(resize_depth(depth, 21))) == {0.0, 4.0}
    assert resize_depth(depth, 21).shape == (21, 33)
    assert np.array_equal(resize_depth(depth, 30), depth)
