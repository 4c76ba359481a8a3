"""What several tests of training have in common."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from PIL import Image
from torch.multiprocessing.spawn import start_processes

from common.ranks import Ranks


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
def in_processes(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """`in_processes(act, world, …)`: calls `act(ranks, …)` in each of several processes that are joined by gloo."""

    def start(act: Callable[..., object], world: int, *given: Any) -> None:
        meeting = tmp_path_factory.mktemp("meeting") / "place"
        start_processes(_join, (world, meeting, act, *given), nprocs=world, start_method="fork")

    return start


def _join(rank: int, world: int, meeting: Path, act: Callable[..., object], *given: Any) -> None:
    gc.freeze()  # as in tests/processes.py
    torch.set_num_threads(1)
    os.environ["WORLD_SIZE"] = str(world)  # as torchrun tells it
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=world)
    act(Ranks(rank, world), *given)
    dist.destroy_process_group()
