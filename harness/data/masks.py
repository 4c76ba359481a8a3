"""Block masks over the patches of the global crops (BEiT, arXiv 2106.08254 §2.3, with the counts of DINOv2 and v3)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from common import draws
from common.errors import BadInput

SMALLEST_BLOCK = 4  # patches
LARGEST_BLOCK = 0.5  # share of the grid
NARROWEST = 0.3  # height over width; its inverse is the widest
TRIES = 10


def mask_counts(crops: int, patches: int, probability: float, ratio_min: float, ratio_max: float) -> list[int]:
    """Masked patches of each masked crop: ⌊crops·probability⌋ numbers, evenly spread and the same at every step.

    The ratios are linspace(ratio_min, ratio_max) without its first entry, the counts ⌊patches·ratio⌋.
    """
    masked = math.floor(crops * probability + 1e-9)
    ratios = np.linspace(ratio_min, ratio_max, masked + 1)[1:]
    return [math.floor(patches * ratio + 1e-9) for ratio in ratios]  # 1e-9: 0.3 × 10 is 3, whatever floats say


def block_mask(rng: np.random.Generator, grid: tuple[int, int], count: int) -> np.ndarray:
    """bool [H, W] with exactly `count` True: rectangles while they fit, then single patches; else BadInput."""
    height, width = grid
    if not 0 <= count <= height * width:
        raise BadInput(f"got {count} patches to mask on a {height}x{width} grid: want 0 to {height * width}")
    mask = np.zeros(grid, bool)
    remaining = count
    while remaining > 0:
        added = _add_block(rng, mask, remaining)
        if added == 0:
            break
        remaining -= added
    free = np.flatnonzero(~mask)
    mask.flat[rng.choice(free, remaining, replace=False)] = True
    return mask


def _add_block(rng: np.random.Generator, mask: np.ndarray, remaining: int) -> int:
    """Masks one rectangle that covers something new, at most `remaining`; returns how much, 0 if no try fits."""
    rows, columns = mask.shape
    largest = min(remaining, LARGEST_BLOCK * mask.size)
    for size, shape, down, right in rng.random((TRIES, 4)):
        area = SMALLEST_BLOCK + size * (largest - SMALLEST_BLOCK)
        aspect = math.exp((2 * shape - 1) * -math.log(NARROWEST))
        height, width = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if height >= rows or width >= columns:
            continue
        top, left = int(down * (rows - height + 1)), int(right * (columns - width + 1))
        block = mask[top : top + height, left : left + width]
        new = block.size - int(block.sum())
        if 0 < new <= remaining:
            block[:] = True
            return new
    return 0


def batch_masks(
    seed: int,
    step: int,
    crops: int,
    grid: tuple[int, int],
    *,
    probability: float,
    ratio_min: float,
    ratio_max: float,
    shift: bool = False,
    own: Sequence[int] | None = None,
) -> Bool[Tensor, "C P"]:
    """Masks of a step's `crops` global crops in crop-major order, True = masked; which crops get one is drawn.

    shift: each is moved by a random number of rows and columns, around the edges. own: the crops that are asked for,
    None = all of them.
    """
    counts = mask_counts(crops, grid[0] * grid[1], probability, ratio_min, ratio_max)
    chosen = draws.philox(seed, step, "masks/order").permutation(crops)[: len(counts)]
    places = {crop: place for place, crop in enumerate(range(crops) if own is None else own)}
    masks = np.zeros((len(places), *grid), bool)
    for crop, count in zip(chosen.tolist(), counts, strict=True):
        if crop not in places:
            continue
        masks[places[crop]] = block_mask(draws.philox(seed, step, "masks/blocks", crop), grid, count)
        if shift:
            by = draws.philox(seed, step, "masks/shift", crop).integers(grid)
            masks[places[crop]] = np.roll(masks[places[crop]], by, axis=(0, 1))
    return torch.from_numpy(masks.reshape(len(places), -1))
