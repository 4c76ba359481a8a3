"""Pixels as bytes, as numbers in [0, 1], and as a network takes them."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from evals.backbones.weights import IMAGENET_MEAN, IMAGENET_STD


def as_float(views: np.ndarray) -> Float[Tensor, "B 3 S S"]:
    """uint8 [B, S, S, 3] -> [0, 1]."""
    return torch.from_numpy(views).movedim(-1, 1).to(torch.float32, memory_format=torch.contiguous_format).div_(255)


def as_bytes(images: Float[Tensor, "*B 3 H W"]) -> UInt8[Tensor, "*B 3 H W"]:
    """[0, 1] -> the nearest of 256 levels."""
    return (images * 255).round().to(torch.uint8)


def normalise(images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B 3 S S"]:
    """ImageNet mean and standard deviation, in place."""
    mean, std = (images.new_tensor(value).view(3, 1, 1) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return images.sub_(mean).div_(std)
