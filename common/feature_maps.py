"""Patch features as pictures: principal components as colours, and the similarity of all patches to a chosen one.

Both as in DINOv3 (arXiv 2508.10104): the first three principal components of the patches as red, green and blue, and
cosine similarity to a marked patch, which turns noisy when dense features degrade (§4). numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

POINTS = ((0.5, 0.5), (0.25, 0.25), (0.75, 0.75))
KEPT = (1.0, 99.0)  # percentiles of a component that the colours span
FLAT = 1e-6  # of the largest spread: what rounding leaves of a direction without variance is no structure

Point = tuple[float, float]  # shares of height and width, from the top left corner


@dataclass(frozen=True)
class Basis:
    """Three directions [D 3] with the values along each that become 0 and 1; a flat one has no structure to show."""

    middle: Float[np.ndarray, " D"]
    directions: Float[np.ndarray, "D 3"]
    low: Float[np.ndarray, " 3"]
    high: Float[np.ndarray, " 3"]

    def colours(self, patches: Float[np.ndarray, "h w D"]) -> Float[np.ndarray, "h w 3"]:
        """Patches as red, green and blue in 0..1, mid-grey in flat directions."""
        spread = self.high - self.low
        flat = spread <= FLAT * spread.max()
        along = (patches.astype(np.float64) - self.middle) @ self.directions
        shown = np.clip((along - self.low) / np.where(flat, 1, spread), 0, 1)
        return np.where(flat, 0.5, shown).astype(np.float32)


def basis(patches: Sequence[Float[np.ndarray, "h w D"]]) -> Basis:
    """The first three principal components of all these patches together.

    Each component's 1st to 99th percentile fills 0..1, so that a few outliers do not make the rest grey. Its sign is
    that which makes its largest loading positive.
    """
    rows = np.concatenate([one.reshape(-1, one.shape[-1]) for one in patches]).astype(np.float64)
    middle = rows.mean(0)
    centred = rows - middle
    _, directions = np.linalg.eigh(centred.T @ centred / len(rows))
    directions = directions[:, ::-1][:, :3]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(0)[None], 0)
    directions = directions * np.sign(largest)
    directions = np.pad(directions, ((0, 0), (0, 3 - directions.shape[1])))  # features may have fewer dimensions
    low, high = np.percentile(centred @ directions, KEPT, axis=0)
    return Basis(middle, directions, low, high)


def similarity(patches: Float[np.ndarray, "h w D"], point: Point) -> Float[np.ndarray, "h w"]:
    """Cosine similarity, -1..1, of every patch with the one under a point."""
    rows = patches.astype(np.float64)
    rows = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return rows @ rows[patch_at(point, rows.shape[:2])]


def patch_at(point: Point, grid: tuple[int, ...]) -> tuple[int, int]:
    """Row and column of the patch that lies under a point, given as shares of height and width."""
    row, column = (min(int(share * side), side - 1) for share, side in zip(point, grid, strict=True))
    return row, column
