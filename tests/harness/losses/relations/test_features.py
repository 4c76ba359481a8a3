"""The control: squared distance of directions, patch by patch."""

import math

import torch
from torch.testing import assert_close

from harness.losses.relations.features import feature_loss


def test_features_equal_plain_loops():
    draws = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(3, 5, 4, dtype=torch.float64, generator=draws) for _ in range(2))
    found = []
    for s, t in zip(student.flatten(0, 1).tolist(), teacher.flatten(0, 1).tolist(), strict=True):
        found.append(sum((a / math.hypot(*s) - b / math.hypot(*t)) ** 2 for a, b in zip(s, t, strict=True)))
    assert_close(feature_loss(student, teacher), torch.tensor(sum(found) / len(found), dtype=torch.float64))


def test_it_is_two_less_two_cosines():
    student = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [2.0, 0.0]]])
    teacher = torch.tensor([[[3.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]])
    assert_close(feature_loss(student, teacher), torch.tensor((0 + 2 + 4) / 3))
