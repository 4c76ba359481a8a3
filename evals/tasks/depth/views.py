"""Augmented images for the training of the published depth head: borders cut off, placed at random, recoloured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from common import draws
from evals import mmseg_bridge
from evals.datasets.labelled_set import LabelledSet
from evals.fitting import augmented
from evals.fitting.augmented import AugmentedBatch

if TYPE_CHECKING:
    from evals.tasks.depth.settings import PublishedDepth


def batch_of(train: LabelledSet, protocol: PublishedDepth, step: int) -> AugmentedBatch:
    """The augmented views of one iteration, colours aside: a function of the seed and the step alone."""
    views = protocol.views

    def view(index: int, seed: int) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
        return mmseg_bridge.depth_view(*cut(protocol, train.image(index), train.depth(index)), views, seed=seed)

    return augmented.batch(
        step, view, seed=protocol.seed, batch_size=protocol.batch_size, images=len(train), shape=views.crop, fill=0
    )


def cut(
    protocol: PublishedDepth, image: UInt8[np.ndarray, "H W 3"], depth: Float[np.ndarray, "H W"]
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "h w"]]:
    """An image and its depth without the borders of the frame, at the protocol's size."""
    factor = protocol.size / min(depth.shape)
    if depth.shape == protocol.frame:
        left, top, right, bottom = protocol.box
        image, depth = image[top:bottom, left:right], depth[top:bottom, left:right]
    side = round(factor * min(depth.shape))
    return mmseg_bridge.resize_short(image, side), mmseg_bridge.resize_depth(depth, side)


def recolour(protocol: PublishedDepth, step: int, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Some images in [0, 1] raised to a power and with other brightness, of all channels and of each."""
    found = images.clone()
    for place in range(len(images)):
        draw = draws.pcg64(protocol.seed, "colours", step * protocol.batch_size + place)
        if draw.random() < protocol.recolour:
            gamma = draw.uniform(*protocol.gamma)
            factors = draw.uniform(*protocol.brightness) * draw.uniform(*protocol.colour, size=3)
            found[place] = (images[place] ** gamma * images.new_tensor(factors).view(3, 1, 1)).clamp(0, 1)
    return found
