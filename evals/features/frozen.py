"""Features of a batch of images by a frozen backbone: sides filled up to its stride, maps back at the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from common.errors import NonFiniteFeatures
from common.products import fast_linear
from evals.backbones.backbone import Backbone, Features
from evals.features.view import Precision


def features(
    backbone: Backbone, images: UInt8[Tensor, "B H W 3"] | Float[Tensor, "B 3 H W"], *, precision: Precision = "float32"
) -> Features:
    """Frozen float32 features of a batch, on the backbone's device, without gradient.

    Args:
        images: RGB, either uint8 with channels last as data sets give them, or floating in [0, 1] with channels first;
            sides are multiples of the backbone's stride (`pad_to_stride`).
        precision: "bfloat16" computes under autocast.

    Raises:
        NonFiniteFeatures: the backbone gives NaN or infinity.
    """
    images = images.to(backbone.device)
    if images.dtype == torch.uint8:
        images = floats(images)
    half = torch.autocast(backbone.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")
    with half, fast_linear():
        found = backbone(images)
    if not (found.pooled.isfinite().all() and found.patches.isfinite().all()):
        raise NonFiniteFeatures(
            f"got features from {backbone.name} that are not finite: want sound weights; do check it"
        )
    return Features(*(x.float() for x in found))


def floats(images: UInt8[Tensor, "B H W 3"]) -> Float[Tensor, "B 3 H W"]:
    """Images as networks take them: in [0, 1], channels first."""
    return images.permute(0, 3, 1, 2).float() / 255


@contextmanager
def lent(backbone: Backbone, device: str | torch.device) -> Iterator[torch.device]:
    """The backbone on this device inside the block, and back where it was behind it."""
    home, device = backbone.device, torch.device(device)
    backbone.to(device)
    try:
        yield device
    finally:
        backbone.to(home)


def pad_to_stride(
    images: Float[Tensor, "B 3 H W"], stride: int, *, colour: Sequence[float]
) -> tuple[Float[Tensor, "B 3 h w"], tuple[int, int]]:
    """Images in the centre of sides that are multiples of the stride, and the (top, left) that they begin at.

    What is added has this RGB colour; with the mean that the backbone takes off, it is zero inside.
    """
    height, width = images.shape[2:]
    rows, columns = (-height % stride, -width % stride)
    top, left = rows // 2, columns // 2
    if not (rows or columns):
        return images, (0, 0)
    padded = images.new_tensor(colour).view(1, 3, 1, 1).repeat(len(images), 1, height + rows, width + columns)
    padded[:, :, top : top + height, left : left + width] = images
    return padded, (top, left)


def upsample(
    maps: Float[Tensor, "B C h w"], padded: Sequence[int], corner: tuple[int, int], shape: Sequence[int]
) -> Float[Tensor, "B C H W"]:
    """Patch maps at the pixels of the images: bilinear (align_corners False) to the padded size, padding cut off."""
    full = F.interpolate(maps, size=tuple(padded), mode="bilinear", align_corners=False)
    (top, left), (height, width) = corner, shape
    return full[:, :, top : top + height, left : left + width]


def encode(
    backbone: Backbone, images: Float[Tensor, "B 3 H W"], *, precision: Precision = "float32"
) -> tuple[Float[Tensor, "B D h w"], Callable[[Tensor], Tensor]]:
    """Frozen patches of images in [0, 1] of any sides, and what brings patch maps [B C h w] to their pixels."""
    padded, corner = pad_to_stride(images, backbone.stride, colour=backbone.mean)
    patches = features(backbone, padded, precision=precision).patches
    return patches, partial(upsample, padded=padded.shape[2:], corner=corner, shape=images.shape[2:])
