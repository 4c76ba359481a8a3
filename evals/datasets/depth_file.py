"""Reading one map of depth."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from common.errors import BadInput
from evals.datasets.image_file import opened


def read_depth(path: Path) -> np.ndarray:
    """float32 [H, W] in metres, 0 where unknown, from 16 bits of millimetres."""
    with opened(path) as image:
        if not image.mode.startswith("I"):
            raise BadInput(f"got {path} in mode {image.mode}: want 16 bits of millimetres; convert it")
        return np.asarray(image).astype(np.float32) / np.float32(1000)
