from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from evals import mmseg_bridge


def test_areas_equal_a_plain_count():
    draw = np.random.default_rng(0)
    guess, truth = draw.integers(0, 4, (13, 17)), draw.integers(0, 4, (13, 17)).astype(np.uint8)
    truth[:3] = 255
    found = mmseg_bridge.intersect_and_union(guess, truth, num_classes=5)
    known = truth != 255
    for c in range(5):
        g, t = (guess == c) & known, (truth == c) & known
        assert [int(area[c]) for area in found] == [(g & t).sum(), (g | t).sum(), g.sum(), t.sum()]


def test_tensors_and_arrays_give_the_same_areas():
    guess, truth = torch.tensor([[0, 1], [1, 1]]), torch.tensor([[0, 1], [0, 7]])
    tensors = mmseg_bridge.intersect_and_union(guess, truth, num_classes=2, ignore_index=7)
    arrays = mmseg_bridge.intersect_and_union(guess.numpy(), truth.numpy(), num_classes=2, ignore_index=7)
    np.testing.assert_array_equal(tensors, arrays)
    np.testing.assert_array_equal(tensors, [[1, 1], [2, 2], [1, 2], [2, 1]])


def test_ade20k_has_its_150_classes_and_colours():
    classes, palette = mmseg_bridge.ade20k_classes(), mmseg_bridge.ade20k_palette()
    assert len(classes) == len(palette) == 150
    assert classes[:3] == ("wall", "building", "sky")
    assert palette[0] == (120, 120, 120)
    assert "classes" in mmseg_bridge.definition("NYUDataset")


def test_the_stand_in_for_compiled_operations_refuses_to_run():
    mmseg_bridge.ade20k_classes()
    ops = sys.modules["mmcv.ops"]
    if ops.__file__ != mmseg_bridge.__file__:
        pytest.skip("a real mmcv with compiled operations is installed and in use")
    with pytest.raises(RuntimeError, match="point_sample needs compiled operations"):
        ops.point_sample(1)  # pyright: ignore
