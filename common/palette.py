"""Colours of pixel classes, told apart as far as so many can be, of depth, and of similarities between patches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from matplotlib import colormaps

UNLABELLED = 255  # a pixel of no class, in masks and predictions
KEPT = (1.0, 99.0)  # percentiles of the true depth that the colours span
UNKNOWN = (189, 189, 189)
DEPTH, COSINE = colormaps["viridis_r"], colormaps["magma"]
LOWEST = -0.25  # cosine at the dark end of the scale; what is lower is as dark


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


def depth_span(depth: np.ndarray | None) -> tuple[float, float]:
    """Metres at the two ends of the colours of an image's depth, by its truth [h w], 0 where unknown."""
    known = depth[depth > 0].astype(float) if depth is not None else np.zeros(0)
    low, high = np.percentile(known, KEPT) if known.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-3))


def depth_colours(depth: np.ndarray, span: tuple[float, float]) -> np.ndarray:
    """Metres [h w] as uint8 [h w 3], near ones light; grey where unknown: 0 or NaN."""
    shown = depth.astype(np.float64)
    known = np.isfinite(shown) & (shown > 0)
    share = (np.where(known, shown, 0) - span[0]) / (span[1] - span[0])
    return np.where(known[..., None], coloured(share, DEPTH), np.array(UNKNOWN, np.uint8))


def cosine_colours(cosine: np.ndarray) -> np.ndarray:
    """Cosines [h w] as uint8 [h w 3], on one scale for all of a report."""
    return coloured((cosine - LOWEST) / (1 - LOWEST), COSINE)


def coloured(share: np.ndarray, table: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Shares [h w] as the colours of a map, uint8 [h w 3]; what is beyond 0 and 1 is as its ends."""
    return rgb_bytes(table(np.clip(share, 0, 1))[..., :3])


def rgb_bytes(colour: np.ndarray) -> np.ndarray:
    """Shares as bytes."""
    return np.rint(np.asarray(colour) * 255).astype(np.uint8)
