"""Blocks that torch has compiled: the same step to rounding, the same bits each time, and none without a compiler."""

import logging

import pytest
import torch

from harness.backbones import compiled

pytestmark = [
    pytest.mark.slow,  # a compiler takes seconds for each branch
    pytest.mark.filterwarnings("default"),  # torch hides its own, which must not be errors for that
]


@pytest.fixture(autouse=True)
def asked_anew():
    compiled.works.cache_clear()
    yield
    compiled.works.cache_clear()
    compiled._made.cache_clear()
    torch._dynamo.reset()


def test_compiled_steps_are_those_of_eager_blocks_to_rounding_and_the_same_bits_when_compiled_again(
    tiny, change, take_steps, weights, same
):
    small = change(tiny, {"crops.local_count": 0, "model.args.depth": 2, "gram.weight": 0.0})
    state, rows = take_steps(change(small, {"runtime.compile": True}), 2)
    assert all(getattr(one.backbone, compiled.COMPILED) for one in (state.student, state.teacher))
    _, eager = take_steps(small, 2)
    for row, want in zip(rows, eager, strict=True):
        assert row == pytest.approx(want, rel=1e-4)
    compiled._made.cache_clear()
    torch._dynamo.reset()
    again, _ = take_steps(change(small, {"runtime.compile": True}), 2)
    assert same(weights(again), weights(state))


def test_without_a_compiler_blocks_are_run_as_they_are_and_one_line_says_so(
    tiny, change, take_steps, weights, same, caplog, monkeypatch
):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no-such-compiler",))
    monkeypatch.setattr("torch._inductor.config.force_disable_caches", True)
    torch._dynamo.reset()
    with caplog.at_level(logging.WARNING, "gramlab"):
        state, _ = take_steps(change(tiny, {"runtime.compile": True}), 1)
    (line,) = [record.getMessage() for record in caplog.records if "runtime.compile" in record.getMessage()]
    assert line.endswith("; blocks are run as they are")
    assert same(weights(state), weights(take_steps(tiny, 1)[0]))
