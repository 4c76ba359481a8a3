"""Affinities against plain loops, and what the temperature does."""

import math

import pytest
import torch
from torch.testing import assert_close

from common.errors import BadInput
from harness.losses.relations.affinities import affinity_loss


def patches(images=3, count=6, width=4, seed=0):
    return torch.randn(images, count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def affinities(rows, i, temperature):
    """Softmax of a patch's cosines with all others."""
    weights = []
    for j, other in enumerate(rows):
        if j != i:
            product = sum(a * b for a, b in zip(rows[i], other, strict=True))
            weights.append(math.exp(product / math.hypot(*rows[i]) / math.hypot(*other) / temperature))
    return [weight / sum(weights) for weight in weights]


@pytest.mark.parametrize(("count", "width", "other"), [(2, 3, 3), (6, 4, 4), (5, 8, 3), (12, 2, 2)])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 1.0])
def test_affinities_equal_plain_loops(count, width, other, temperature):
    student, teacher = patches(3, count, width, seed=1), patches(3, count, other, seed=2)
    found = []
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        for i in range(count):
            p, q = (affinities(rows, i, temperature) for rows in (theirs, ours))
            found.append(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    want = torch.tensor(sum(found) / len(found), dtype=torch.float64)
    assert_close(affinity_loss(student, teacher, temperature), want)


def test_one_number_added_to_all_cosines_changes_nothing():
    """With a channel that all patches share, unit patches (0.6, 0.8 u) have the cosines 0.36 + 0.64 cos(u)."""
    student, teacher = (torch.nn.functional.normalize(patches(seed=s), dim=-1) for s in (1, 2))
    shared = [torch.cat([torch.full_like(x[..., :1], 0.6), 0.8 * x], -1) for x in (student, teacher)]
    assert_close(affinity_loss(*shared, 0.64 * 0.1), affinity_loss(student, teacher, 0.1))


def test_a_cold_temperature_looks_at_the_nearest_patches_alone():
    student, teacher = patches(1, 8, 4, seed=1), patches(1, 8, 4, seed=2)
    assert affinity_loss(student, teacher, 0.02) > 10 * affinity_loss(student, teacher, 1.0)


def test_a_temperature_of_zero_is_refused():
    with pytest.raises(BadInput, match=r"got temperature 0\.0: want more than 0"):
        affinity_loss(patches(), patches(), 0.0)
