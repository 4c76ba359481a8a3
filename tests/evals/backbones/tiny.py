"""A tiny model and images that tests of several backbones share."""

from __future__ import annotations

from typing import Any

import timm
import torch
from torch import Tensor

DINO = "vit_small_patch16_dinov3_qkvb"
TINY = {"embed_dim": 48, "depth": 2, "num_heads": 2, "img_size": 64, "patch_size": 8}


def tiny(**more: Any) -> torch.nn.Module:
    return timm.create_model(DINO, num_classes=0, dynamic_img_size=True, **TINY, **more)


def images(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))
