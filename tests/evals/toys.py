"""Small sets and backbones that tests of several evaluations share."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from evals.backbone import Backbone, create, wrap
from evals.features import FeatureSet


class Masks:
    """A set of masks alone."""

    name, split, classes, has_depth = "masks", "val", (), False

    def __init__(self, masks: list[np.ndarray], segments: str) -> None:
        self.masks, self.segments = masks, tuple(segments)

    def __len__(self) -> int:
        return len(self.masks)

    def key(self, index: int) -> str:
        return f"image-{index}"

    def mask(self, index: int) -> np.ndarray:
        return self.masks[index]


def featured(
    tokens: np.ndarray, grids: list[tuple[int, int]], masks: list[np.ndarray], segments: str = "abcd"
) -> FeatureSet:
    """`tokens` are the patches of all images, one after the other."""
    x = torch.from_numpy(tokens.astype(np.float32))
    dataset: Any = Masks(masks, segments)
    return FeatureSet.in_memory(dataset, x[: len(masks)], tokens=x, grids=torch.tensor(grids))


class Pixels(nn.Module):
    """A model of stride 1 whose patches are the normalised pixels; one parameter, so that it has a device."""

    feature_info = ({"reduction": 1},)

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward_intermediates(self, images: Tensor, **_: object) -> tuple[Tensor, list[Tensor]]:
        return images, [images * self.scale]


def pixels() -> Backbone:
    """Patches are the pixels in [0, 1]."""
    return wrap(Pixels(), name="pixels", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def tiny_vit() -> Backbone:
    """A random ViT with patches of 8 and 32 features, always the same."""
    args = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_reg_tokens": 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return wrap(create("vit_small_patch16_dinov3_qkvb", args), name="tiny")
