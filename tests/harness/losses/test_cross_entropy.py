"""The cross-entropy with its product against the plain formula, however it is cut."""

import pytest
import torch
from torch.testing import assert_close

from harness.losses import cross_entropy as at_work
from harness.losses import visits
from harness.losses.cross_entropy import Scores, cross_entropy


def made_up(n=7, prototypes=11, width=4, rows=7, dtype=torch.float64):
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(n, width, dtype=dtype, generator=draw).requires_grad_()
    directions = torch.randn(prototypes, width, dtype=dtype, generator=draw).requires_grad_()
    targets = 3 * torch.rand(rows, prototypes, dtype=dtype, generator=draw)
    return Scores(features, directions), targets, torch.rand(n, dtype=dtype, generator=draw)


def plainly(scores, targets, weights, temperature):
    log_p = (scores.features @ scores.prototypes.T / temperature).log_softmax(-1)
    return -((targets * log_p).sum(-1) * weights).sum()


@pytest.fixture(params=[(2**27, 2**21), (2 * 11 * 8, 11 * 8), (11 * 8 * 5, 11 * 8 * 2), (1, 1)], ids=str)
def cut(request, monkeypatch):
    """Bytes at once, and in a cache: all rows, two and one, five and two, none."""
    monkeypatch.setattr(visits, "CHUNK", request.param[0])
    monkeypatch.setattr(visits, "CACHED", request.param[1] // torch.get_num_threads())


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.usefixtures("cut")
def test_value_and_gradients_are_those_of_the_formula_however_it_is_cut(temperature):
    scores, targets, weights = made_up()
    want = plainly(scores, targets, weights, temperature)
    gradients = torch.autograd.grad(3 * want, scores[:2])
    found = cross_entropy(scores, targets, weights, temperature)
    (3 * found).backward()
    assert_close(found, want)
    for one, gradient in zip(scores[:2], gradients, strict=True):
        assert_close(one.grad, gradient)


@pytest.mark.usefixtures("cut")
def test_samples_may_share_rows_of_targets():
    scores, targets, weights = made_up(rows=3)
    rows = torch.tensor([2, 0, 0, 1, 2, 2, 1])
    want = plainly(scores, targets[rows], weights, 0.5)
    gradients = torch.autograd.grad(want, scores[:2])
    cross_entropy(scores, targets, weights, 0.5, rows=rows).backward()
    for one, gradient in zip(scores[:2], gradients, strict=True):
        assert_close(one.grad, gradient)


def test_products_are_taken_in_the_type_of_the_features_and_gradients_are_of_their_own_types():
    scores, targets, weights = made_up(dtype=torch.float32)
    half = scores.features.detach().bfloat16().requires_grad_()
    found = cross_entropy(Scores(half, scores.prototypes), targets, weights, 0.5)
    made = Scores(half, scores.prototypes, scores.prototypes.detach().bfloat16())
    assert torch.equal(cross_entropy(made, targets, weights, 0.5), found)
    assert torch.equal(made.logits(), Scores(half, scores.prototypes).logits())
    found.backward()
    assert found.dtype == torch.float32
    assert (half.grad.dtype, scores.prototypes.grad.dtype) == (torch.bfloat16, torch.float32)
    want = plainly(scores, targets, weights, 0.5)
    assert_close(found, want, rtol=0.02, atol=0)
    for got, gradient in zip((half.grad, scores.prototypes.grad), torch.autograd.grad(want, scores[:2]), strict=True):
        assert_close(got.float(), gradient, rtol=0.1, atol=0.1)


def test_without_gradient_none_is_computed(monkeypatch):
    computed, product = [], at_work.gradient_of_weight
    monkeypatch.setattr(at_work, "gradient_of_weight", lambda *given: computed.append(given) or product(*given))
    scores, targets, weights = made_up()
    want = cross_entropy(scores, targets, weights, 0.5)
    assert len(computed) == 1
    with torch.no_grad():
        assert torch.equal(cross_entropy(scores, targets, weights, 0.5), want)
    fixed = Scores(*(one.detach() for one in scores[:2]))
    assert torch.equal(cross_entropy(fixed, targets, weights, 0.5), want)
    assert len(computed) == 1


@pytest.mark.parametrize("narrow", ["features", "targets"])
def test_the_sum_is_in_the_wider_type_of_features_and_weights(narrow):
    scores, targets, weights = made_up()
    want = plainly(scores, targets, weights, 0.5)
    if narrow == "features":
        scores = Scores(*(one.float() for one in scores[:2]))
    else:
        targets, weights = targets.float(), weights.float()
        want = plainly(scores, targets.double(), weights.double(), 0.5)
    found = cross_entropy(scores, targets, weights, 0.5)
    assert found.dtype == torch.float64
    assert_close(found, want, rtol=1e-6 if narrow == "features" else 1e-12, atol=0)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_part_is_as_large_for_each_thread_as_for_one_alone(monkeypatch, threads):
    monkeypatch.setattr(visits, "CACHED", 4 * 11 * 8)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    parts = visits.in_cache(torch.zeros(25, 11, dtype=torch.float64))
    assert [part.stop - part.start for part in parts] == {1: [4] * 6 + [1], 3: [12, 12, 1]}[threads]


def test_targets_are_left_as_they_were():
    scores, targets, weights = made_up()
    before = targets.clone()
    cross_entropy(scores, targets, weights, 0.5).backward()
    assert torch.equal(targets, before)


def test_no_sample_costs_nothing_and_has_a_graph():
    scores, targets, weights = made_up(n=0, rows=0)
    found = cross_entropy(scores, targets, weights, 0.5)
    found.backward()
    assert found == 0
    assert scores.prototypes.grad.abs().sum() == 0
