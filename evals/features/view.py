"""What a backbone sees of an image: the view, its pixels, and which patch lies over which of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from PIL import Image

from common.errors import BadInput

Layout = Literal["crop", "whole"]


Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class View:
    """What the backbone sees of an image.

    "crop": the short side becomes round(`size` / `crop_pct`) (bicubic, antialiased), then the centre square of
    `size`. "whole": the short side becomes `size`, the aspect is kept and both sides are rounded to a multiple of the
    backbone's stride, so that nothing is cut off.
    """

    layout: Layout
    size: int
    crop_pct: float = 1.0


def refuse_uneven(got: str, size: int, patch: int) -> None:
    """Raises BadInput, which begins with what was got, for a size that patches (pixels both) do not divide."""
    if size < patch or size % patch:
        near = nearest_multiple(size, patch)
        raise BadInput(f"got {got} with patches of {patch}: want a multiple; try {near}")


def nearest_multiple(side: float, patch: int) -> int:
    """The multiple of a patch that a side comes nearest to, at least one; all in pixels."""
    return max(round(side / patch), 1) * patch


def prepare(image: np.ndarray, view: View, *, stride: int) -> np.ndarray:
    """What the view shows of an image: uint8 [H W 3] to [h w 3]."""
    target = _resized(image.shape, view, stride)
    if target != [*image.shape[:2]]:
        image = np.asarray(Image.fromarray(image).resize((target[1], target[0]), Image.Resampling.BICUBIC))
    if view.layout == "whole":
        return image
    top, left = (round((side - view.size) / 2) for side in target)
    return image[top : top + view.size, left : left + view.size]


def prepared_sides(shape: tuple[int, ...], view: View, *, stride: int) -> tuple[int, int]:
    """Height and width of what `prepare` makes of an image of this shape."""
    height, width = _resized(shape, view, stride) if view.layout == "whole" else (view.size, view.size)
    return height, width


def _resized(shape: tuple[int, ...], view: View, stride: int) -> list[int]:
    """Height and width to which an image is resized."""
    sides, short = shape[:2], min(shape[:2])
    if view.layout == "whole":
        return [nearest_multiple(side * view.size / short, stride) for side in sides]
    # The sides and the corner are torchvision's (Resize, CenterCrop), with which numbers are published
    goal = round(view.size / view.crop_pct)
    return [goal if side == short else int(goal * side / short) for side in sides]


def cells(shape: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """For each pixel of an [H W] target the row-major index of the patch over its centre."""
    rows, columns = ((np.arange(side) * 2 + 1) * count // (2 * side) for side, count in zip(shape, grid, strict=True))
    return rows[:, None] * grid[1] + columns[None, :]


def cell_means(
    values: Float[np.ndarray, "n K"], known: Bool[np.ndarray, "H W"], grid: tuple[int, int]
) -> tuple[Float[np.ndarray, "P K"], Float[np.ndarray, " P"]]:
    """For each patch the mean of the `values` of the n known pixels under it, 0 without one, and their share of it.

    Both float32, from sums in float64.
    """
    cell, patches = cells((known.shape[0], known.shape[1]), grid), grid[0] * grid[1]
    pixels = np.bincount(cell[known], minlength=patches)
    sums = [np.bincount(cell[known], weights=part, minlength=patches) for part in values.T]
    everything = np.bincount(cell.ravel(), minlength=patches)
    means = np.stack(sums, -1) / np.maximum(pixels, 1)[:, None]
    return means.astype(np.float32), (pixels / np.maximum(everything, 1)).astype(np.float32)
