"""Colours of pixel classes, of the parts of an image, and of the directions in which surfaces face."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps

from evals.datasets.labelled_set import IGNORE


def colours(count: int) -> np.ndarray:
    """float [256, 3]: a colour for each of `count` pixel classes, black for `IGNORE`."""
    table = np.zeros((256, 3))
    places = np.arange(count)
    table[:count] = colormaps["tab20"](places)[:, :3] if count <= 20 else _far_apart(count)
    table[IGNORE] = 0
    return table


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


def _far_apart(count: int) -> np.ndarray:
    """float [count, 3]: colours far from one another and from black, grey and white in CIELAB, chosen greedily."""
    shades = np.linspace(0, 1, 9)
    rgb = np.stack(np.meshgrid(shades, shades, shades, indexing="ij"), -1).reshape(-1, 3)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4339, 0.2126, 0.0178], [0.3762, 0.7152, 0.1095], [0.1899, 0.0722, 0.8727]]  # by the D65 white
    x, y, z = np.cbrt(linear @ np.array(to_xyz)).T
    lab = np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1)
    calm = (np.hypot(lab[:, 1], lab[:, 2]) < 85) & (lab[:, 0] > 25)
    nearest = np.min([np.linalg.norm(lab - [grey, 0, 0], axis=1) for grey in (0, 50, 100)], 0) * calm
    chosen: list[int] = []
    for _ in range(count):
        chosen.append(int(nearest.argmax()))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[chosen[-1]], axis=1))
    return rgb[chosen]
