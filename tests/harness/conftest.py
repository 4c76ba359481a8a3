"""What several tests of training have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.multiprocessing.spawn import start_processes

from common.ranks import started
from tests.processes import become, free_port


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve pictures of noise, six of each class, in a folder of images."""
    draw = np.random.default_rng(0)
    for number in range(12):
        path = tmp_path / "photos" / "train" / ("cat", "dog")[number // 6] / f"{number % 6}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


@pytest.fixture(scope="session")
def in_processes() -> Callable[..., None]:
    """`in_processes(act, world, …)`: calls `act(ranks, …)` in each of several processes that are joined by gloo."""

    def start(act: Callable[..., object], world: int, *given: Any) -> None:
        start_processes(_join, (world, free_port(), act, *given), nprocs=world, start_method="fork")

    return start


def _join(rank: int, world: int, port: int, act: Callable[..., object], *given: Any) -> None:
    become(rank, world, port)
    torch.set_num_threads(1)
    with started() as ranks:
        act(ranks, *given)
