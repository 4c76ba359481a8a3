from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from common.errors import NonFiniteFeatures
from evals.backbones.backbone import Backbone, wrap
from evals.features import frozen
from tests.evals.toys import Pixels


class Means(Pixels):
    """`Pixels` with the means of patches of 3 × 3."""

    feature_info = ({"reduction": 3},)

    def forward_intermediates(self, images: Tensor, **_: object) -> tuple[Tensor, list[Tensor]]:
        return images, [torch.nn.functional.avg_pool2d(images, 3) * self.scale]


@pytest.fixture
def backbone() -> Backbone:
    return wrap(Pixels(), name="pixels", mean=(0.5, 0.25, 0.75), std=(0.5, 0.5, 0.5))


def test_patch_maps_come_back_to_their_pixels_when_the_stride_does_not_divide_the_sides():
    """A ramp, seen as the means of patches of 3 in the centre of 21 × 12, is the same ramp away from the border."""
    coarse = wrap(Means(), name="means", mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
    ramp = torch.linspace(0, 1, 20 * 11).view(1, 1, 20, 11).expand(1, 3, -1, -1)
    patches, to_pixels = frozen.encode(coarse, ramp)
    assert patches.shape == (1, 3, 7, 4)
    found = to_pixels(patches) + 0.5
    assert found.shape == ramp.shape
    torch.testing.assert_close(found[:, :, 5:15, 5:6], ramp[:, :, 5:15, 5:6])


def test_bytes_and_fractions_of_the_same_images_give_the_same_features(backbone: Backbone):
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, 4, 3), dtype=np.uint8))
    found = frozen.features(backbone, images)
    same = frozen.features(backbone, images.permute(0, 3, 1, 2).float() / 255)
    assert torch.equal(found.patches, same.patches)
    assert found.patches.shape == (2, 3, 3, 4)
    assert not found.patches.requires_grad
    torch.testing.assert_close(found.patches[1, 2, 0, 1], (images[1, 0, 1, 2] / 255 - 0.75) / 0.5)


def test_features_are_float32_under_autocast_and_refused_when_not_finite(backbone: Backbone):
    assert frozen.features(backbone, torch.rand(1, 3, 2, 2), precision="bfloat16").patches.dtype == torch.float32
    with pytest.raises(NonFiniteFeatures, match="pixels"):
        frozen.features(backbone, torch.full((1, 3, 2, 2), torch.nan))


def test_padding_is_centred_zero_inside_and_taken_off_again(backbone: Backbone):
    images = torch.rand(2, 3, 5, 8)
    padded, corner = frozen.pad_to_stride(images, 7, colour=backbone.mean)
    assert padded.shape == (2, 3, 7, 14)
    assert corner == (1, 3)
    seen = frozen.features(backbone, padded).patches
    assert (seen[:, :, 0] == 0).all()
    assert (seen[:, :, :, 11:] == 0).all()
    assert torch.equal(frozen.upsample(padded, (7, 14), corner, (5, 8)), images)
    assert frozen.pad_to_stride(images, 1, colour=backbone.mean) == (images, (0, 0))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="wants a second device")
def test_the_backbone_comes_back_to_its_device(backbone: Backbone):
    with frozen.lent(backbone, "cuda") as device:
        assert backbone.device.type == device.type == "cuda"
    assert backbone.device.type == "cpu"
