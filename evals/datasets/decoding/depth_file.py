"""Reading one map of depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.errors import BadInput
from evals.datasets.decoding.deep_file import WIDE
from evals.datasets.decoding.stored_values import stored_values
from evals.datasets.reading import AS_USUAL, Reading

MILLIMETRES = 1000.0  # to the metre: what whole numbers are, unless the set says otherwise


def read_depth(path: Path, reading: Reading = AS_USUAL) -> np.ndarray:
    """float32 [H, W] in metres, 0 where unknown, from whole numbers of millimetres, from metres, or as `reading` says.

    Raises:
        BadInput: no map of one channel, or one of 8 bits without a scale.
    """
    want = "want 16 bits of millimetres, or metres as float TIFF or .npy; convert it"
    if reading.depth_scale is None:
        want += ", or say by depth_scale how many of 8 bits make a metre"
    values = stored_values(path, reading, what="depth", modes=(*WIDE, "L"), want=want)
    if values.dtype.itemsize == 1 and reading.depth_scale is None:
        raise BadInput(f"got {path} in mode L: {want}")
    with np.errstate(invalid="ignore", over="ignore"):
        metres = values.astype(np.float32) / np.float32(reading.depth_scale or usual_scale(values))
    known = np.isfinite(metres) & (metres > 0)
    if reading.depth_unknown:
        known &= ~np.isin(values, reading.depth_unknown)
    return np.where(known, metres, np.float32(0))


def usual_scale(values: np.ndarray) -> float:
    """What values are divided by to be metres where the set does not say: whole numbers are millimetres."""
    return 1.0 if values.dtype.kind == "f" else MILLIMETRES
