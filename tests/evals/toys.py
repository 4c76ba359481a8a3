"""Small sets and backbones that tests of several evaluations share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from string import ascii_letters
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evals.backbones.backbone import Backbone, wrap
from evals.backbones.timm_models import create
from evals.datasets.labelled_set import Surfaces
from evals.features.feature_set import FeatureSet
from evals.features.matrix import Rows
from evals.results.table import Row

ROW = Row(
    run="trial",
    arm="plain",
    seed=0,
    step=100,
    eval="knn",
    protocol="knn-quick-v1",
    protocol_hash="0a1b2c3d",
    size=64,
    dataset="scenes",
    split="val",
    data="5cab1e00",
    metric="top1",
    value=0.5,
    low=0.4,
    high=0.6,
    images=100,
)


class Labels:
    """A set of image classes alone, named by letters."""

    name, split, segments, has_depth = "made", "train", (), False

    def __init__(self, labels: Tensor, classes: str) -> None:
        self.values, self.classes = labels, tuple(classes)

    def __len__(self) -> int:
        return len(self.values)

    def key(self, index: int) -> str:
        return f"image-{index}"

    def label(self, index: int) -> int:
        return int(self.values[index])


def labelled(x: Rows, labels: Tensor, classes: str, *, mean: Tensor | None = None) -> FeatureSet:
    """Pooled features of images of these classes; `mean` is that of their patches."""
    dataset: Any = Labels(labels, classes)
    pooled: Any = x  # may be on disk
    return FeatureSet.in_memory(dataset, pooled, mean=mean)


def clusters(n: int, *, seed: int, classes: int, width: int, noise: float = 2.0) -> tuple[Tensor, Tensor]:
    """Features [n D] around the centres of classes, and their labels; the centres are the same for every seed."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(9))
    labels = torch.randint(classes, (n,), generator=draw)
    return centres[labels] + noise * torch.randn(n, width, generator=draw), labels


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


def bilinear(scores: Tensor, grid: tuple[int, int], shape: tuple[int, ...]) -> Tensor:
    """Scores [P C] of patches at the size of a mask, [C H W]: the plain way, all classes at once."""
    return F.interpolate(scores.T.reshape(1, -1, *grid), size=tuple(shape), mode="bilinear", align_corners=False)[0]


def forty_classes() -> FeatureSet:
    """Two images of 5 x 6 random patches, their masks of 50 x 60 pixels with more classes than go at a time."""
    draw = np.random.default_rng(0)
    masks = [draw.integers(0, 40, (50, 60)).astype(np.uint8) for _ in range(2)]
    return featured(draw.standard_normal((60, 8)), [(5, 6)] * 2, masks, segments=ascii_letters[:40])


def maps_brought_to(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that takes down how many maps at a time are interpolated to this shape from now on."""
    found: list[int] = []
    interpolate = F.interpolate

    def noted(x: Tensor, size: Any = None, **options: Any) -> Tensor:
        full = interpolate(x, size, **options)
        if full.shape[-2:] == shape:
            found.append(full.shape[0] * full.shape[1])
        return full

    monkeypatch.setattr(F, "interpolate", noted)
    return found


@contextmanager
def silenced(library: str, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing of a library's log is heard inside the block, and everything after it."""
    logger = logging.getLogger(library)
    logger.addHandler(caplog.handler)
    try:
        yield
        assert caplog.records == []
        logger.warning("heard again")
        assert "heard again" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)


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


class Seen:
    """A set of surfaces alone."""

    name, split, classes, segments, has_depth, has_surfaces = "seen", "val", (), (), False, True

    def __init__(self, surfaces: list[Surfaces]) -> None:
        self.known = surfaces

    def __len__(self) -> int:
        return len(self.known)

    def key(self, index: int) -> str:
        return f"image-{index}"

    def surfaces(self, index: int) -> Surfaces:
        return self.known[index]


def surfaced(tokens: np.ndarray, surfaces: list[Surfaces], grid: tuple[int, int]) -> FeatureSet:
    """`tokens` are the patches of all images, one after the other, each image's on this grid."""
    x = torch.from_numpy(tokens.astype(np.float32))
    dataset: Any = Seen(surfaces)
    return FeatureSet.in_memory(dataset, x[: len(surfaces)], tokens=x, grids=torch.tensor([grid] * len(surfaces)))
