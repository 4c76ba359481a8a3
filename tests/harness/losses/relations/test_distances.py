"""Relational distances against plain loops over pairs, and where patches meet."""

import math

import pytest
import torch
from torch.testing import assert_close

from harness.losses.relations.distances import distance_loss


def patches(images=3, count=6, width=4, seed=0):
    return torch.randn(images, count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def in_plain_loops(student, teacher):
    losses = []
    for ours, theirs in zip(student.tolist(), teacher.tolist(), strict=True):
        pairs = [(i, j) for i in range(len(ours)) for j in range(len(ours)) if i != j]
        sides = [[math.dist(side[i], side[j]) for i, j in pairs] for side in (ours, theirs)]
        means = [sum(side) / len(pairs) for side in sides]
        for s, t in zip(*sides, strict=True):
            gap = abs(s / means[0] - t / means[1])
            losses.append(gap**2 / 2 if gap <= 1 else gap - 0.5)
    return torch.tensor(sum(losses) / len(losses), dtype=torch.float64)


@pytest.mark.parametrize(("count", "width", "other"), [(2, 1, 1), (6, 4, 4), (5, 8, 3), (40, 2, 2)])
def test_distances_equal_plain_loops(count, width, other):
    student, teacher = patches(3, count, width, seed=1), patches(3, count, other, seed=2)
    assert_close(distance_loss(student, teacher), in_plain_loops(student, teacher))


def test_a_gap_above_one_counts_linearly():
    """Distances 1, 1, 2 and 8, 1, 9 over their means 4/3 and 6: gaps 7/12, 7/12 and 0; then one of 9/7 and more."""
    student = torch.tensor([[[0.0], [1.0], [2.0]]], dtype=torch.float64)
    teacher = torch.tensor([[[0.0], [8.0], [9.0]]], dtype=torch.float64)
    assert_close(distance_loss(student, teacher), torch.tensor((7 / 12) ** 2 / 3, dtype=torch.float64))
    teacher = torch.tensor([[[0.0], [0.0], [0.0], [1.0]]], dtype=torch.float64)
    student = torch.tensor([[[1.0], [0.0], [0.0], [0.0]]], dtype=torch.float64)
    assert_close(distance_loss(student, teacher), torch.tensor(1.5 * 4 / 6, dtype=torch.float64))


def test_patches_that_meet_give_a_finite_gradient():
    student = patches(1, 6, 4)
    student[0, 1] = student[0, 0]
    student.requires_grad_()
    distance_loss(student, patches(1, 6, 4, seed=1)).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_distances_of_patches_that_nearly_meet_are_finite_and_right_in_float32():
    """Of all scales, down to patches that rounding cannot tell apart."""
    student, teacher = patches(1, 24, 8, seed=1), patches(1, 24, 8, seed=2)
    for i in range(1, 12):
        student[0, i] = student[0, 0] + 10.0**-i
    want = distance_loss(student, teacher)
    (gradient,) = torch.autograd.grad(distance_loss(inner := student.clone().requires_grad_(), teacher), inner)
    near = student.float().requires_grad_()
    loss = distance_loss(near, teacher.float())
    loss.backward()
    assert_close(loss.double(), want, rtol=1e-5, atol=1e-5)
    assert near.grad is not None
    assert near.grad.norm() < 1.1 * gradient.norm()


def test_no_more_is_held_than_matrices_of_the_patches():
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        distance_loss(patches(1, 64, 256, seed=1).requires_grad_(), patches(1, 64, 256, seed=2))
    assert max(kept) == 64 * 256  # the patches; torch.cdist would make 64 * 64 * 256 on a GPU
