"""Frozen features of live images: views stacked, sides filled up to the stride, maps brought back to their pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from common.errors import NonFiniteFeatures
from evals import mmseg_bridge
from evals.backbones.backbone import Backbone, Features
from evals.draws import Stream, entropy
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
    with torch.autocast(backbone.device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16"):
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


class Batch(NamedTuple):
    """Augmented views as they come from the loader, filled up to one size."""

    images: UInt8[Tensor, "B H W 3"]
    targets: Tensor  # [B H W], of each pixel: its class, or its metres
    sides: Int[Tensor, "B 2"]  # (height, width) of each view before that


def batch(
    step: int,
    view: Callable[[int, int], tuple[np.ndarray, np.ndarray]],
    *,
    seed: int,
    batch_size: int,
    images: int,
    shape: tuple[int, int],
    fill: int,
) -> Batch:
    """The views of one iteration, a function of the seed and the step alone.

    Args:
        view: from the number of an image and a seed to a view [h w 3] and its target [h w], at most `shape`.
        images: how many images there are.
        fill: what targets are filled up with; images are with 0.
    """
    order = Stream(images, seed)
    positions = range(step * batch_size, (step + 1) * batch_size)
    views = [view(order[position], entropy(seed, "views", position)) for position in positions]
    seen, targets = zip(*views, strict=True)
    sides = torch.tensor([target.shape for target in targets])
    return Batch(stack(seen, shape, fill=0), stack(targets, shape, fill=fill), sides)


def picture(backbone: Backbone, image: UInt8[np.ndarray, "H W 3"], side: int) -> Float[Tensor, "3 h w"]:
    """An image with this short side (mmsegmentation's resize), in [0, 1] on the backbone's device."""
    resized = torch.from_numpy(mmseg_bridge.resize_short(image, side))
    return floats(resized[None].to(backbone.device))[0]


def stack(views: Sequence[np.ndarray], shape: tuple[int, int], *, fill: int) -> Tensor:
    """Views [h w ...] of one shape after filling them up at the right and at the bottom: [B H W ...]."""
    full = np.full((len(views), *shape, *views[0].shape[2:]), fill, dtype=views[0].dtype)
    for whole, view in zip(full, views, strict=True):
        whole[: view.shape[0], : view.shape[1]] = view
    return torch.from_numpy(full)


def pictures(
    images: UInt8[Tensor, "B H W 3"],
    sides: Int[Tensor, "B 2"],
    backbone: Backbone,
    *,
    alter: Callable[[Tensor], Tensor] = lambda images: images,
) -> Float[Tensor, "B 3 H W"]:
    """Stacked views in [0, 1] on the backbone's device; beyond the (height, width) of each, zero when normalised.

    Args:
        alter: what else happens to the images [B 3 H W] in [0, 1], before that.
    """
    device, (height, width) = backbone.device, images.shape[1:3]
    rows, columns = (torch.arange(side, device=device) for side in (height, width))
    sides = sides.to(device)
    inside = (rows < sides[:, :1])[:, :, None] & (columns < sides[:, 1:])[:, None, :]
    found = alter(floats(images.to(device)))
    return torch.where(inside[:, None], found, found.new_tensor(backbone.mean).view(1, 3, 1, 1))
