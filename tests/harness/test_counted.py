"""Deep networks and large batches, counted by small ones: against the count of the whole."""

from dataclasses import astuple, replace

import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from harness import counted, model
from harness.beginning import fresh_state
from harness.config import load
from harness.counted import (
    _count,
    alike,
    at_depth,
    block_count,
    by_depth,
    count,
    entering_bytes,
    network_bytes,
    shapes,
)
from harness.forward import forward
from harness.losses.gram import Gram
from harness.model import patch_size
from harness.recipe import Model
from harness.schedules import at

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


@pytest.mark.parametrize("values", [{}, GRAM, {"precision": "bfloat16"}])
def test_a_step_that_recomputes_is_counted_as_one_with_the_inside_of_a_block(tiny, change, values):
    deep = change(at_depth(tiny, 7), values)
    kept, again = (change(deep, {"runtime.recompute": one}) for one in (False, True))
    whole, inside = _count(again, 0, None), block_count(kept).activations - entering_bytes(kept)
    assert count(again) == replace(whole, activations=whole.activations + inside)
    assert count(again).activations < count(kept).activations
    assert count(again).backward > count(kept).backward


NANO = ["trunk.checkpoint=null", "evals.tasks={}", "data.batch_size=8"]


@pytest.fixture
def real():
    """`real(*overrides)`: settings, a student, and a function that takes the forward pass of their first step."""

    def made(*overrides):
        settings = load("experiments/gram_ablation.yaml", [*NANO, *overrides])
        state = fresh_state(settings, 0, torch.device("cpu"))
        batch = shapes(settings, patch_size(state.student.backbone))
        batch = batch._replace(**{one: torch.randn(getattr(batch, one).shape) for one in ("globals", "locals")})
        now = at(settings, 0, stop=settings.steps)
        return settings, state.student, lambda: forward(state, batch, now, settings, seed=0)[0]

    return made


def test_in_float32_the_count_is_what_the_real_step_keeps_to_the_byte(real):
    settings, student, taken = real("precision=float32")
    assert count(settings).activations == _kept(student, taken)


def test_in_bfloat16_the_count_lacks_the_rounded_weights_and_the_float32_of_losses(real):
    settings, student, taken = real("precision=bfloat16")
    short = _kept(student, taken) - count(settings).activations
    assert 0 < short < 2 * sum(p.numel() for p in student.parameters()) + 0.02 * count(settings).activations


def test_what_enters_a_block_is_float32_of_all_tokens_in_either_precision(real, monkeypatch):
    inputs, both = list[torch.Tensor](), model._both

    def spied(x, **how):
        inputs.extend([x] if torch.is_grad_enabled() else [])  # of the student
        return both(x, **how)

    monkeypatch.setattr(model, "_both", spied)
    for precision in ("float32", "bfloat16"):
        inputs.clear()
        settings, student, taken = real(f"precision={precision}", "crops.local_size=24")
        taken()
        second = [x for number, x in enumerate(inputs) if number % (len(student.backbone.blocks) - 1) == 1]
        assert len(second) == 2  # of global and of local crops
        assert entering_bytes(settings) == sum(x.nbytes for x in second)


def test_where_blocks_are_computed_anew_the_count_is_near_the_most_that_the_real_step_has_alive(real):
    """Against storages that live after each operation, gradients of the weights aside."""
    settings, student, taken = real("precision=float32", "runtime.recompute=true", "model.args.depth=12")
    with _Alive() as alive:
        taken().backward()
    gradients = sum(p.numel() * 4 for p in student.parameters())
    counted = count(settings).activations
    assert alive.most - gradients < counted < alive.most


class _Alive(TorchDispatchMode):
    """The most bytes, in `most`, that are alive at once of the storages that operations make."""

    def __init__(self):
        super().__init__()
        self.most, self.made = 0, {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        given = {x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        for x in tree_leaves(found):
            if isinstance(x, torch.Tensor) and x.untyped_storage()._cdata not in given:
                self.made[x.untyped_storage()._cdata] = (
                    StorageWeakRef(x.untyped_storage()),
                    x.untyped_storage().nbytes(),
                )
        self.made = {key: one for key, one in self.made.items() if not one[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.made.values()))
        return found


def _kept(student, taken):
    """Bytes of what a forward pass saves, the weights aside."""
    saved, weights = {}, {p.untyped_storage()._cdata for p in student.parameters()}

    def keep(x):
        saved[x.untyped_storage()._cdata] = x.untyped_storage()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        total = taken()
    assert total.requires_grad
    return sum(one.nbytes() for key, one in saved.items() if key not in weights)


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
