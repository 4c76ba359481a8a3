"""Batches of augmented images for the training of heads, each a function of a seed and the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from common.draws import Stream, entropy
from evals import mmseg_bridge
from evals.backbones.backbone import Backbone
from evals.features.frozen import floats


class AugmentedBatch(NamedTuple):
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
) -> AugmentedBatch:
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
    return AugmentedBatch(stack(seen, shape, fill=0), stack(targets, shape, fill=fill), sides)


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
