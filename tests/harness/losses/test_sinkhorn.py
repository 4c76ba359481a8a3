"""Sinkhorn-Knopp against the recipe's value, plain loops and what must always hold."""

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from torch.testing import assert_close

from common.errors import BadInput
from harness.losses import visits
from harness.losses.sinkhorn import sinkhorn_knopp

LOGITS = [[1, 0, -1], [0.5, 0.5, 0], [0, 1, 0.2], [-1, 0.2, 1]]


def in_plain_loops(logits, temperature, iterations):
    """The published form, on Python floats: exponentials first, then rows and columns in turn."""
    q = [[math.exp(x / temperature) for x in row] for row in logits]
    samples, prototypes = len(q), len(q[0])
    total = sum(map(sum, q))
    q = [[x / total for x in row] for row in q]
    for _ in range(iterations):
        for k in range(prototypes):
            mass = sum(row[k] for row in q)
            for row in q:
                row[k] /= mass * prototypes
        for row in q:
            mass = sum(row)
            row[:] = [x / (mass * samples) for x in row]
    return torch.tensor([[x * samples for x in row] for row in q], dtype=torch.float64)


def test_sinkhorn_gives_the_value_of_the_recipe():
    want = [
        [0.861701, 0.115777, 0.022522],
        [0.397181, 0.394315, 0.208505],
        [0.095561, 0.701008, 0.203432],
        [0.011129, 0.121792, 0.867079],
    ]
    got = sinkhorn_knopp(torch.tensor(LOGITS, dtype=torch.float64), 0.5)
    assert_close(got, torch.tensor(want, dtype=torch.float64), atol=5e-7, rtol=0)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (1, 5), (7, 1), (6, 4), (5, 33)])
@pytest.mark.parametrize("temperature", [0.04, 0.07, 1.0])
@pytest.mark.parametrize("iterations", [1, 3, 6])
def test_sinkhorn_equals_plain_loops(n, k, temperature, iterations):
    logits = torch.randn(n, k, dtype=torch.float64, generator=torch.Generator().manual_seed(n * k))
    want = in_plain_loops(logits.tolist(), temperature, iterations)
    assert_close(sinkhorn_knopp(logits, temperature, iterations), want)
    assert_close(sinkhorn_knopp(logits.float(), temperature, iterations), want.float(), atol=1e-5, rtol=1e-4)


def test_huge_logits_stay_finite_and_rows_sum_to_one():
    logits = 1e4 * torch.randn(16, 32, generator=torch.Generator().manual_seed(0))
    got = sinkhorn_knopp(logits, 0.04)
    assert got.isfinite().all()
    assert_close(got.sum(1), torch.ones(16))


def test_adding_a_constant_to_all_logits_changes_nothing():
    logits = torch.randn(9, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    assert_close(sinkhorn_knopp(logits + 50, 0.1), sinkhorn_knopp(logits, 0.1))


def test_many_iterations_share_the_prototypes_evenly():
    logits = torch.randn(40, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert_close(sinkhorn_knopp(logits, 0.5, 200).sum(0), torch.full((8,), 5.0, dtype=torch.float64))


def test_samples_and_prototypes_may_come_in_any_order():
    draw = torch.Generator().manual_seed(3)
    logits = torch.randn(7, 5, dtype=torch.float64, generator=draw)
    rows, columns = torch.randperm(7, generator=draw), torch.randperm(5, generator=draw)
    assert_close(sinkhorn_knopp(logits[rows][:, columns], 0.1), sinkhorn_knopp(logits, 0.1)[rows][:, columns])


@pytest.mark.parametrize("split", [3, 0])
def test_two_processes_with_a_reduction_equal_one_with_all_samples(split):
    """Two threads stand for the processes; one of them may have no sample at all."""
    logits = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    barrier, sent = Barrier(2, timeout=30), [torch.empty(0), torch.empty(0)]

    def process(mine, part):
        def reduce(x, op):
            sent[mine] = x
            barrier.wait()
            both = torch.stack(sent)
            barrier.wait()
            return both.amax(0) if op == "max" else both.sum(0)

        return sinkhorn_knopp(part, 0.1, reduce=reduce)

    with ThreadPoolExecutor(2) as threads:
        got = list(threads.map(process, (0, 1), (logits[:split], logits[split:])))
    assert_close(torch.cat(got), sinkhorn_knopp(logits, 0.1))


def test_sinkhorn_works_in_float32_under_autocast_and_carries_no_gradient():
    logits = torch.randn(6, 9, generator=torch.Generator().manual_seed(5)).bfloat16().requires_grad_()
    want = sinkhorn_knopp(logits.detach().float(), 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        got = sinkhorn_knopp(logits, 0.05)
    assert got.dtype == torch.float32
    assert not got.requires_grad
    assert torch.equal(got, want)


def test_the_logits_are_left_as_they_were():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(6))
    before = logits.clone()
    sinkhorn_knopp(logits, 1.0)
    assert torch.equal(logits, before)


def test_logits_that_are_no_longer_needed_hold_the_answer():
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(6))
    want = sinkhorn_knopp(logits, 0.5)
    found = sinkhorn_knopp(logits, 0.5, overwrite=True)
    assert found.data_ptr() == logits.data_ptr()
    assert torch.equal(found, want)


@pytest.mark.parametrize("cached", [1, 3 * 6 * 8, 2**21])
def test_rows_may_be_visited_in_any_parts(monkeypatch, cached):
    monkeypatch.setattr(visits, "CACHED", cached)
    logits = torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
    assert_close(sinkhorn_knopp(logits, 0.1), in_plain_loops(logits.tolist(), 0.1, 3))


def test_no_samples_give_no_rows():
    assert sinkhorn_knopp(torch.empty(0, 5), 0.1).shape == (0, 5)


@pytest.mark.parametrize(
    ("logits", "options", "words"),
    [
        (torch.zeros(3), {}, r"got logits \[3\]: want \[n, K\]"),
        (torch.zeros(3, 0), {}, r"got logits \[3, 0\]"),
        (torch.zeros(3, 2, dtype=torch.long), {}, "torch.int64: want floating point"),
        (torch.zeros(3, 2), {"temperature": 0.0}, "got temperature 0.0: want more than 0"),
        (torch.zeros(3, 2), {"iterations": 0}, "got 0 Sinkhorn iterations: want at least 1"),
    ],
)
def test_impossible_input_is_refused_in_one_line(logits, options, words):
    with pytest.raises(BadInput, match=words):
        sinkhorn_knopp(logits, **{"temperature": 0.1} | options)


def test_sinkhorn_runs_on_the_meta_device():
    assert sinkhorn_knopp(torch.empty(5, 7, device="meta"), 0.1).shape == (5, 7)
