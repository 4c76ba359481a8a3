"""Memory of kNN on cached features as banks outgrow it, a part of `benchmarks/evals.py`."""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import resident
from evals.features.feature_set import FeatureSet
from evals.features.matrix import DiskRows
from evals.protocols.reading import load
from evals.tasks import knn


@dataclass(frozen=True)
class Classes:
    """A labelled set without images: as much of one as kNN on cached features asks for."""

    count: int
    classes: tuple[str, ...]
    name: str = "made up"
    split: str = "train"

    def __len__(self) -> int:
        return self.count

    def key(self, index: int) -> str:
        return str(index)

    def label(self, index: int) -> int:
        return index % len(self.classes)


def on_disk(path: Path, n: int, width: int) -> DiskRows:
    """A file of random features, written a block at a time."""
    draw = np.random.default_rng(n)
    with path.open("wb") as file:
        for start in range(0, n, 4096):
            file.write(draw.standard_normal((min(4096, n - start), width), dtype=np.float32).tobytes())
    return DiskRows(path, (n, width))


def peak_of(bank: DiskRows, queries: DiskRows, classes: int, k: int) -> tuple[float, float]:
    """MiB resident before kNN, and at most, in this process since it began."""
    names = tuple(map(str, range(classes)))
    train, test = (
        FeatureSet.in_memory(Classes(len(rows), names), rows)  # pyright: ignore[reportArgumentType]
        for rows in (bank, queries)
    )
    before = resident("VmRSS")
    knn.evaluate(load("knn-quick", knn.Knn, k=(k,)), train, test)
    return before, resident("VmHWM")


def compare_memory(given: argparse.Namespace) -> None:
    """Peak memory of kNN, bank and queries on disk, each size in a fresh process."""
    print(f"memory of kNN, k {given.k[0]}, width {given.width}, bank and queries on disk; MiB")
    print(f"{'bank':>10}{'queries':>10}{'on disk':>10}{'before':>10}{'peak':>10}{'kNN':>10}")
    small, few = given.bank // 2, given.queries // 2
    spawn = multiprocessing.get_context("spawn")  # a forked process would begin with our memory
    options: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (given.threads,)}
    for bank, queries in ((small, few), (2 * small, few), (4 * small, few), (small, 4 * few)):
        with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, spawn, **options) as pool:
            files = on_disk(Path(folder, "bank"), bank, given.width), on_disk(Path(folder, "q"), queries, given.width)
            before, peak = pool.submit(peak_of, *files, given.classes, given.k[0]).result()
        size = (bank + queries) * given.width * 4 / 2**20
        print(f"{bank:10}{queries:10}{size:10.0f}{before:10.0f}{peak:10.0f}{peak - before:10.0f}", flush=True)
