"""Reading one mask of pixel classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.errors import BadInput
from evals.datasets.image_file import opened
from evals.datasets.labelled_set import IGNORE, BeyondClasses


def read_mask(path: Path, names: Sequence[str]) -> np.ndarray:
    """uint8 [H, W] from an 8-bit annotation: 0 and 255 become `IGNORE`, v becomes class v - 1."""
    with opened(path) as image:
        if image.mode not in ("L", "P"):
            raise BadInput(f"got {path} in mode {image.mode}: want an 8-bit mask of one channel; convert it")
        values = np.array(image)
    top = int(values[values != IGNORE].max(initial=0))
    if top > len(names):
        want = f"want 0 to {len(names)} (one per class) or 255"
        raise BeyondClasses(f"got value {top} in {path}: {want}; correct classes", top)
    values[values == 0] = IGNORE
    values[values != IGNORE] -= 1
    return values
