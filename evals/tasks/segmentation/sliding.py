"""Sliding-window inference: one image seen in overlapping windows, the maps averaged where windows overlap."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side: every `stride` pixels, the last one moved back to end with the side."""
    last = max(side - window, 0)
    return [min(start, last) for start in range(0, last + stride, stride)] if last else [0]


def slide(
    predict: Callable[[Float[Tensor, "n 3 h w"]], Float[Tensor, "n C h w"]],
    image: Float[Tensor, "3 H W"],
    *,
    window: int,
    stride: int,
    batch: int = 4,
) -> Float[Tensor, "C H W"]:
    """The mean over all windows that see a pixel of what `predict` says about it.

    Windows are squares of side `window`, narrower only where the image is. At most `batch` of them, and the maps of
    these, are in memory at once beside the sum.
    """
    height, width = image.shape[1:]
    boxes = [
        (slice(top, min(top + window, height)), slice(left, min(left + window, width)))
        for top in starts(height, window, stride)
        for left in starts(width, window, stride)
    ]
    total, seen = image.new_zeros(()), image.new_zeros(height, width)
    for first in range(0, len(boxes), batch):
        chosen = boxes[first : first + batch]
        maps = predict(torch.stack([image[:, rows, columns] for rows, columns in chosen]))
        total = maps.new_zeros(maps.shape[1], height, width) if total.ndim == 0 else total
        for (rows, columns), one in zip(chosen, maps, strict=True):
            total[:, rows, columns] += one
            seen[rows, columns] += 1
    return total / seen
