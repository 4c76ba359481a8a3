"""Rotary position embedding of DINOv3 with its training-time draws (arXiv 2508.10104 §3.2, "RoPE-box jittering")."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


class RopeDraw(NamedTuple):
    """One draw for one block and one crop size: added shift and factors per axis (rows, columns)."""

    shift: tuple[float, float]
    factor: tuple[float, float]


def draw_rope(
    rng: np.random.Generator, *, shift: float | None, jitter: float | None, rescale: float | None
) -> RopeDraw | None:
    """Shift U(−s, s) and jitter exp U(−ln j, ln j) per axis, one rescale exp U(−ln r, ln r) for both; None if off."""
    if shift is None and jitter is None and rescale is None:
        return None
    u = 2 * rng.random(5) - 1
    common = math.exp(u[4] * math.log(rescale or 1))
    factors = [math.exp(v * math.log(jitter or 1)) * common for v in u[2:4]]
    return RopeDraw((u[0] * (shift or 0.0), u[1] * (shift or 0.0)), (factors[0], factors[1]))


def patch_coordinates(
    grid: tuple[int, int], draw: RopeDraw | None = None, *, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "P 2"]:
    """Patch centres (row, column) in [−1, 1], each axis by its own length, then shifted and scaled by the draw."""
    rows, columns = (2 * (torch.arange(n, dtype=dtype) + 0.5) / n - 1 for n in grid)
    if draw is not None:
        rows, columns = (rows + draw.shift[0]) * draw.factor[0], (columns + draw.shift[1]) * draw.factor[1]
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)


def rope_table(
    periods: Float[Tensor, " d/4"],
    grid: tuple[int, int],
    draw: RopeDraw | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "P 2*d"]:
    """Sines, then cosines, of the angles 2π · coordinate / period: d/4 row angles, d/4 column angles, both twice.

    The layout is the one that timm's attention takes for the half-split rotation. All of it is computed in `dtype`,
    whatever the autocast; bfloat16 rounds the coordinates (recipe §1.6).
    """
    coordinates = patch_coordinates(grid, draw, dtype=dtype).to(periods.device)
    angles = (2 * math.pi * coordinates[:, :, None] / periods.to(dtype)).flatten(1).tile(2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
