"""Memory and time of a large manifest: to open it, to draw images from it, to take its fingerprint.

    python benchmarks/manifest.py [--rows 1000000 10000000] [--place FOLDER]

Each number of rows is a manifest of rendered rooms, written here, and a process of its own that opens it as a training
source, draws 1,000 rows at random and takes the fingerprint; what is told is the memory that the process holds after
each, and the most that it ever held, both above what it held when all was imported.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from benchmarks.measure import note
from benchmarks.told import Parser
from common.command import columns
from common.machine import peak_memory_gib
from common.speed import machine_line
from evals.datasets.layouts.manifest_rows import BLOCK, KEY, Digest
from evals.datasets.settings import Set
from harness.curation.manifest import opening
from harness.data.mixing import mixture
from harness.data.pool import fingerprint, open_pool
from harness.data_settings import Data

CPU = torch.device("cpu")
DRAWN = 1000
CLUSTERS = 1000
EACH = 10**6  # rooms of a source
MEASURED = ("opening_s", "opened_mib", "draws_s", "fingerprint_s", "held_mib", "peak_mib")


def main() -> None:
    """Print the machine and a row for each size."""
    parser = Parser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--place", type=Path, help="folder for the manifest and the cache; a temporary one by default")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(one(args.one)))
        return
    print(machine_line(CPU))
    found: list[tuple[str, ...]] = [
        ("rows", "file, MiB", "opening", "seconds", "held, MiB", "draws, s", "fingerprint, s", "held", "most held")
    ]
    for rows in args.rows:
        with tempfile.TemporaryDirectory(dir=args.place) as folder:
            path = Path(folder) / "manifest.parquet"
            write(path, rows)
            for which in ("first", "again"):
                command = [sys.executable, __file__, "--one", str(path)]
                said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
                note("manifest", f"{rows:,} rows, {which}", dict(zip(MEASURED, said, strict=True)), device=CPU)
                size = f"{path.stat().st_size / 2**20:.0f}"
                found.append((f"{rows:,}", size, which, *(f"{value:.3g}" for value in said)))
    print(columns(found))


def write(path: Path, rows: int) -> None:
    """A manifest of so many rooms in clusters of two levels, of which it keeps nine of ten."""
    draw, digest = np.random.default_rng(0), Digest()
    names = ["source", "image", "place", "level_1", "level_2", "sampled", "retrieved", "kept"]
    kinds = [pa.string(), pa.string(), pa.int64(), pa.int32(), pa.int32(), *3 * [pa.bool_()]]
    with pq.ParquetWriter(path, schema := pa.schema(list(zip(names, kinds, strict=True)))) as file:
        for start in range(0, rows, BLOCK):
            places = np.arange(start, min(start + BLOCK, rows))
            low, kept = draw.integers(0, CLUSTERS, len(places)), draw.random(len(places)) < 0.9
            source = [f"rooms_{place // EACH}" for place in places.tolist()]
            images = [f"train/{place:06d}" for place in (places % EACH).tolist()]
            values = [source, images, places % EACH, low, low // 50, kept, np.zeros(len(places), bool), kept]
            batch = pa.record_batch(dict(zip(names, values, strict=True)), schema=schema)
            digest.add(batch)
            file.write_batch(batch)
        one = opening("rooms", Set(kind="scenes", size=16, count=EACH))
        sources = {f"rooms_{number}": one for number in range(-(-rows // EACH))}
        about = {"sources": sources, "levels": 2, "digest": digest.hex()}
        file.add_key_value_metadata({KEY.decode(): json.dumps(about)})


def one(path: Path) -> list[float]:
    """What is `MEASURED`: of opening, of draws and of the fingerprint, what is held behind them, the most that was."""
    process = psutil.Process()

    def held() -> float:
        return process.memory_info().rss / 2**20

    start, at = held(), time.perf_counter()
    data = Data(sources={"all": Set(kind="manifest", root=str(path))}, batch_size=DRAWN)
    pool = open_pool(data, cache=path.parent / "cache")
    drawn = mixture(pool, data)
    opened, at, first = time.perf_counter() - at, time.perf_counter(), held() - start
    for index in drawn.compose(0, 0).indices.tolist():
        pool.key(index)
    taken, at = time.perf_counter() - at, time.perf_counter()
    fingerprint(pool)
    return [opened, first, taken, time.perf_counter() - at, held() - start, peak_memory_gib(CPU) * 1024 - start]


if __name__ == "__main__":
    main()
