"""Colours of the parts of an image, and of the directions in which surfaces face."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps


def parted(parts: np.ndarray) -> np.ndarray:
    """float [H, W, 3]: a pale colour, which stands for no class, for each part [H, W] of an image; twelve in turn."""
    _, place = np.unique(parts, return_inverse=True)
    return colormaps["Set3"](place.reshape(parts.shape) % 12)[..., :3]


def facing(normals: np.ndarray) -> np.ndarray:
    """float [H, W, 3]: red the more a surface faces to the right, green upwards, blue towards the camera.

    `normals` [H, W, 3] are unit vectors as in `Surfaces`; grey where they are 0 or NaN.
    """
    x, y, z = np.moveaxis(np.nan_to_num(normals), -1, 0)
    return np.clip(np.stack([x + 1, y + 1, 1 - z], -1) / 2, 0, 1)
