"""What several tests of training have in common."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures of noise, six of each class, in a folder of images."""
    draw = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "photos" / "train" / ("cat", "dog")[number // 6] / f"{number % 6}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"
