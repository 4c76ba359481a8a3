from __future__ import annotations

import numpy as np
import pytest
import torch

from evals.backbones.backbone import Backbone, wrap
from evals.features import frozen
from evals.fitting import augmented
from tests.evals.toys import Pixels


@pytest.fixture
def backbone() -> Backbone:
    return wrap(Pixels(), name="pixels", mean=(0.5, 0.25, 0.75), std=(0.5, 0.5, 0.5))


def test_views_are_filled_up_with_what_the_backbone_makes_zero(backbone: Backbone):
    views = [np.full((2, 3, 3), 255, np.uint8), np.full((4, 2, 3), 255, np.uint8)]
    stacked, sides = augmented.stack(views, (4, 5), fill=0), torch.tensor([[2, 3], [4, 2]])
    assert stacked.shape == (2, 4, 5, 3)
    found = augmented.pictures(stacked, sides, backbone, alter=lambda images: images / 2 + 0.125)
    inside = torch.zeros(2, 4, 5, dtype=torch.bool)
    inside[0, :2, :3], inside[1, :, :2] = True, True
    assert (found.movedim(1, -1)[inside] == 0.625).all()
    assert (frozen.features(backbone, found).patches.movedim(1, -1)[~inside] == 0).all()
