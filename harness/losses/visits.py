"""Rows of a large matrix in parts: several passes go over a part while a core's caches hold it."""

from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 2**27  # bytes of logits that are held at once
CACHED = 2**21  # bytes that stay in the caches of a CPU's core from pass to pass; a GPU takes a chunk at once


def chunks(rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> list[slice]:
    """All rows, in parts of which none is larger than `CHUNK`, unless a row is; on the meta device, which holds
    nothing, at once."""
    return [slice(0, rows)] if device.type == "meta" else _parts(rows, columns, dtype, CHUNK)


def in_cache(matrix: Tensor) -> list[slice]:
    """All rows of a matrix, in parts that stay near the processor: as much for each thread as one alone would have.

    So sums over parts round by the number of threads, as torch's own do; a run goes on with the number that it had.
    """
    rows, columns = matrix.shape
    if matrix.device.type != "cpu":
        return chunks(rows, columns, matrix.dtype, matrix.device)
    return _parts(rows, columns, matrix.dtype, CACHED * torch.get_num_threads())


def _parts(rows: int, columns: int, dtype: torch.dtype, most: int) -> list[slice]:
    step = max(1, most // (columns * dtype.itemsize))
    return [slice(first, min(first + step, rows)) for first in range(0, rows, step)]
