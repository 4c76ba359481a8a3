"""Colours of pixel classes, told apart as far as so many can be."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps

UNLABELLED = 255  # a pixel of no class, in masks and predictions


def colours(count: int) -> np.ndarray:
    """float [256, 3]: a colour for each of `count` pixel classes, black for `UNLABELLED`."""
    table = np.zeros((256, 3))
    places = np.arange(count)
    table[:count] = colormaps["tab20"](places)[:, :3] if count <= 20 else _far_apart(count)
    table[UNLABELLED] = 0
    return table


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
