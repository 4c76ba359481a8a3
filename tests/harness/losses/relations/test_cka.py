"""CKA of patches against its textbook form with centring matrices, and near 1."""

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from harness.losses.relations.cka import cka_loss


def patches(images=3, count=6, width=4, seed=0):
    return torch.randn(images, count, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def textbook(student, teacher):
    """Kornblith et al. §3: HSIC of two linear kernels, over the root of each with itself."""
    found = []
    for x, y in zip(student.numpy(), teacher.numpy(), strict=True):
        centring = np.eye(len(x)) - 1 / len(x)
        ours, theirs = (centring @ one @ one.T @ centring for one in (x, y))
        found.append(1 - np.trace(ours @ theirs) / math.sqrt(np.trace(ours @ ours) * np.trace(theirs @ theirs)))
    return torch.tensor(np.mean(found))


@pytest.mark.parametrize(("count", "width", "other"), [(2, 1, 1), (6, 4, 4), (5, 8, 3), (20, 4, 4), (20, 4, 6)])
def test_cka_equals_the_textbook_form_between_patches_and_between_channels(count, width, other):
    student, teacher = patches(3, count, width, seed=1), patches(3, count, other, seed=2)
    assert_close(cka_loss(student, teacher), textbook(student, teacher), atol=1e-12, rtol=1e-9)


def test_kernels_at_right_angles_lose_one():
    student = torch.tensor([[[1.0], [1.0], [-1.0], [-1.0]]], dtype=torch.float64)
    teacher = torch.tensor([[[1.0], [-1.0], [1.0], [-1.0]]], dtype=torch.float64)
    assert_close(cka_loss(student, teacher), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize(("count", "width"), [(64, 96), (256, 24)])
@pytest.mark.parametrize("distance", [1e-2, 1e-4])
def test_near_the_teacher_the_loss_keeps_digits_that_one_minus_cka_has_lost(count, width, distance):
    teacher = patches(2, count, width, seed=1)
    student = teacher + distance * patches(2, count, width, seed=2)
    want = cka_loss(student, teacher)
    assert want < 2 * distance**2
    assert_close(cka_loss(student.float(), teacher.float()).double(), want, rtol=1e-3, atol=0)
