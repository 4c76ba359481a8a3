"""Random resized crops: which box of the source becomes which view, and the cutting itself, in 8 bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from common import draws

TRIES = 10
DRAWS = 2 * TRIES + 2  # uniforms per box: area and shape of each try, then the place

Range = tuple[float, float]
Resize = Callable[[Tensor, int], Tensor]  # uint8 [N, 3, H, W] to squares of a side


def boxes(sizes: np.ndarray, uniforms: np.ndarray, *, scale: Range, ratio: Range) -> np.ndarray:
    """Boxes (left, top, width, height), int [B, 4], inside images of `sizes` (height, width), int [B, 2].

    uniforms: [B, 22]. scale: smallest and largest area as a share of the image's; ratio: of width to height. Per image:
    the first of 10 tries that fits, else the largest box in the middle whose shape is allowed; the rule of
    torchvision's RandomResizedCrop.
    """
    heights, widths = (sizes[:, axis, None].astype(float) for axis in (0, 1))
    area = heights * widths * (scale[0] + uniforms[:, 0 : 2 * TRIES : 2] * (scale[1] - scale[0]))
    low, high = (math.log(end) for end in ratio)
    shape = np.exp(low + uniforms[:, 1 : 2 * TRIES : 2] * (high - low))
    tried = np.stack([np.rint(np.sqrt(area * shape)), np.rint(np.sqrt(area / shape))], -1)
    fits = np.all((tried > 0) & (tried <= np.stack([widths, heights], -1)), axis=-1)
    first = tried[np.arange(len(tried)), fits.argmax(1)]
    found = np.any(fits, axis=1, keepdims=True)
    extent = np.where(found, first, _largest(heights, widths, ratio))
    room = np.concatenate([widths, heights], 1) - extent
    corner = np.where(found, np.floor(uniforms[:, -2:] * (room + 1)), np.floor(room / 2))
    return np.concatenate([corner, extent], 1).astype(int)


def _largest(heights: np.ndarray, widths: np.ndarray, ratio: Range) -> np.ndarray:
    """(width, height), [B, 2], of the largest box with a shape in that range."""
    width = np.minimum(widths, np.maximum(1, np.rint(heights * ratio[1])))
    height = np.minimum(heights, np.maximum(1, np.rint(widths / ratio[0])))
    return np.concatenate([width, height], 1)


def draw_boxes(
    seed: int, step: int, view: str, *, sizes: np.ndarray, scale: Range, ratio: Range, first: int = 0
) -> np.ndarray:
    """The boxes of one view ("global/0", "local/3") of a step's images from the `first` on, int [B, 4]: see `boxes`."""
    uniforms = draws.uniforms(seed, step, f"crops/{view}", len(sizes), DRAWS, first=first)
    return boxes(sizes, uniforms, scale=scale, ratio=ratio)


def draw_flips(seed: int, step: int, view: str, *, count: int, probability: float, first: int = 0) -> np.ndarray:
    """Which of a view's images from the `first` on are mirrored, bool [B]."""
    return draws.uniforms(seed, step, f"flips/{view}", count, first=first) < probability


def cut(
    images: Sequence[Tensor], boxes: np.ndarray, flips: np.ndarray, *, size: int, resized: Resize
) -> UInt8[Tensor, "B 3 S S"]:
    """Each box cut from its image, uint8 [H, W, 3], resized, mirrored where asked; `resized`: of an `Engine`.

    Straight from the source's pixels whatever the size, so that a view is the same whether or not the same box is
    also cut at another size for the Gram teacher.
    """
    views = torch.empty(len(images), 3, size, size, dtype=torch.uint8, device=images[0].device)
    for view, image, (left, top, width, height), flip in zip(views, images, boxes.tolist(), flips, strict=True):
        # Cut first: the resize would otherwise read pixels outside the box at its edges.
        part = image[top : top + height, left : left + width].movedim(-1, 0)
        square = resized(part[None], size)[0]
        view.copy_(square.flip(-1) if flip else square)
    return views


def windows(
    seed: int, step: int, view: str, crops: UInt8[Tensor, "B 3 G G"], *, size: int, patch: int, first: int = 0
) -> UInt8[Tensor, "B 3 S S"]:
    """Of each crop, of a step's images from the `first` on, a window of that side with its corner on a patch's."""
    places = (crops.shape[-1] - size) // patch + 1
    uniforms = draws.uniforms(seed, step, f"windows/{view}", len(crops), 2, first=first)
    corners = (uniforms * places).astype(int) * patch
    return torch.stack(
        [crop[:, top : top + size, left : left + size] for crop, (top, left) in zip(crops, corners, strict=True)]
    )
