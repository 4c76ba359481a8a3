"""Deep networks and large batches, counted by small ones: against the count of the whole."""

from dataclasses import astuple

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness import counted
from harness.counted import _count, alike, at_depth, block_count, by_depth, count, network_bytes
from harness.losses.gram import Gram
from harness.recipe import Model

NOISE = {"model.drop_path": 0.3, "model.rope_rescale": 2.0}
GRAM = {"gram": Gram(weight=1.0, resolution=2.0)}


class ByTorch(FlopCounterMode):
    """torch's own counter, which remembers no call."""

    flops = property(FlopCounterMode.get_total_flops)


@pytest.mark.parametrize(
    "values", [{}, NOISE, GRAM, {"runtime.recompute": True}, {"optimizer.freeze_backbone_steps": 1}]
)
def test_operations_and_bytes_are_those_that_torch_finds_when_it_works_out_every_call(
    tiny, change, monkeypatch, values
):
    settings = change(tiny, values)
    found = [_count(settings, 0, None) for _ in range(2)]
    monkeypatch.setattr(counted, "Operations", lambda: ByTorch(display=False))
    monkeypatch.setattr(counted, "on_meta", lambda: torch.device("meta"))
    assert found == [_count(settings, 0, None)] * 2


@pytest.mark.parametrize("values", [{}, NOISE, GRAM, {**GRAM, "precision": "bfloat16"}, {"ibot.weight": 0.0}])
def test_a_deep_network_is_counted_by_shallow_ones_to_the_bit(tiny, change, values):
    settings = at_depth(change(tiny, values), 7)
    assert alike(settings.model)
    assert count(settings) == _count(settings, 0, None)


def test_a_step_that_recomputes_is_counted_as_one(tiny, change):
    kept, again = (change(at_depth(tiny, 7), {"runtime.recompute": one}) for one in (False, True))
    assert [count(one) for one in (kept, again)] == [_count(one, 0, None) for one in (kept, again)]
    assert count(again).activations < count(kept).activations
    assert count(again).backward > count(kept).backward


def test_a_deep_frozen_teacher_is_counted_by_a_shallow_one_to_the_bit(tiny):
    teacher, student = at_depth(tiny, 9), at_depth(tiny, 6)
    assert count(student, 0, teacher) == _count(student, 0, teacher)
    assert count(tiny, 0, teacher) == _count(tiny, 0, teacher)


def test_each_block_adds_the_same(tiny):
    deep = at_depth(tiny, 8)
    assert count(deep) - count(at_depth(tiny, 6)) == 2 * block_count(deep)
    assert by_depth(network_bytes, deep) == network_bytes(deep)


@pytest.mark.parametrize("values", [{}, NOISE, GRAM, {"koleo.weight": 0.1, "koleo.group": 12}])
def test_a_large_batch_is_counted_by_small_ones(tiny, change, values):
    """All but the cosines of KoLeo, which grow with the square of the batch, to the bit."""
    settings = change(tiny, {**values, "data.batch_size": 60})
    found, whole = count(settings), _count(settings, 0, None)
    assert found.flops == pytest.approx(whole.flops, rel=2e-3)
    assert astuple(found)[2:4] == astuple(whole)[2:4]
    assert found.activations == pytest.approx(whole.activations, rel=2e-3)


def test_the_gram_matrix_of_a_whole_batch_is_counted_whole(tiny, change):
    settings = change(tiny, {"gram": Gram(weight=1.0, level="batch"), "data.batch_size": 60})
    assert count(settings) == _count(settings, 0, None)


def test_backbones_of_few_blocks_and_of_stages_are_counted_whole(tiny):
    assert not alike(tiny.model)
    assert not alike(Model(name="convnext_tiny"))
