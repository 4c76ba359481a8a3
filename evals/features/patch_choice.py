"""Which patches stand for a set when not all can be kept: evenly over images and over the image plane, without chance.

A random choice would be a second source of variance: memory banks of other samples give other scores.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

PLASTIC = 1.32471795724474602596  # ρ, the real root of x³ = x + 1


def quotas(sizes: Int[np.ndarray, " n"], most: int) -> Int[np.ndarray, " n"]:
    """How many of its patches each image gives, so that together they give `most` (or all there are).

    As equal as the sizes allow; what does not divide is spread evenly. With fewer than one for each, evenly spread
    images give one.
    """
    if most >= sizes.sum():
        return sizes.astype(np.int64)
    # the highest level that all images can be cut down to without exceeding `most`
    low, high = 0, int(sizes.max())
    while low < high:
        level = (low + high + 1) // 2
        low, high = (level, high) if np.minimum(sizes, level).sum() <= most else (low, level - 1)
    found = np.minimum(sizes, low).astype(np.int64)
    able, left = np.flatnonzero(sizes > low), int(most - found.sum())
    found[able[np.arange(left) * len(able) // max(left, 1)]] += 1
    return found


def visits(grid: tuple[int, int], image: int, quota: int) -> Int[np.ndarray, " P"]:
    """Numbers of all patches of an image, row-major on `grid`, in the order in which they should be taken.

    Any run of them is spread evenly over the grid; each image goes on where the one before it stopped. The order is
    that of Roberts' R2 dither, frac(row / ρ + column / ρ²), whose every interval of values is nearly a lattice.
    """
    rows, columns = np.indices(grid)
    dither = (rows / PLASTIC + columns / PLASTIC**2) % 1
    return np.roll(dither.argsort(axis=None, kind="stable"), -((image * quota) % dither.size))
