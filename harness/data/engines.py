"""Who makes crops of decoded images: the CPU one by one, or a device in batches, by `data.augment`.

Both do the same within rounding: bytes by a level, rarely two, after a resize, colours in the last digits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from harness.data import one_by_one
from harness.data.distort import Distortions, distort
from harness.data.pixels import normalise


class Engine(NamedTuple):
    """resized: uint8 [N, 3, H, W] to squares of a side, bicubic and antialiased. distorted: the same by a plan to
    normalised float32, or to [0, 1] where `normalised=False`; `magnification` as in `distort.distort`; `out`: where it
    shall be."""

    resized: Callable[[Tensor, int], Tensor]
    distorted: Callable[..., Tensor]


def resized(images: UInt8[Tensor, "N 3 H W"], size: int) -> UInt8[Tensor, "N 3 S S"]:
    """On any device: rows first, then columns, each rounded to whole numbers, as Pillow does it."""
    how = {"mode": "bicubic", "antialias": True, "align_corners": False}
    found = images.float()
    for extent in ((images.shape[-2], size), (size, size)):
        found = interpolate(found, size=extent, **how).round_().clamp_(0, 255)
    return found.to(torch.uint8)


def distorted(
    views: UInt8[Tensor, "N 3 H W"],
    plan: Distortions,
    *,
    magnification: float = 1.0,
    normalised: bool = True,
    out: Float[Tensor, "N 3 H W"] | None = None,
) -> Float[Tensor, "N 3 H W"]:
    """On any device, all images at once."""
    out = views.float() if out is None else out.copy_(views)
    distort(out.div_(255), plan, magnification=magnification)
    return normalise(out) if normalised else out


ENGINES = {"cpu": Engine(one_by_one.resized, one_by_one.distorted), "device": Engine(resized, distorted)}
