"""Peak memory and time of curation over the number of images, on made-up embeddings.

    python benchmarks/curation.py [--rows 50000 200000 1000000] [--width 64]

Each number of rows is a process of its own: embeddings are written in shards, then clustered on two levels, freed of
near-duplicates, sampled and searched for neighbours; what is told is the most memory that the process ever held.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch

from benchmarks.told import Parser
from common.command import columns
from common.draws import torch_generator
from common.machine import peak_memory_gib
from common.ranks import Ranks
from common.speed import machine_line
from harness.curation.duplicates import drop
from harness.curation.embeddings import Embeddings
from harness.curation.hierarchy import cluster
from harness.curation.retrieval import retrieve
from harness.curation.sampling import sample
from harness.curation.settings import Clustering, Level

CPU, ALONE = torch.device("cpu"), Ranks()
LEVELS = [Level(clusters=500, resamplings=1, closest=10), Level(clusters=50, resamplings=3)]
GROUPS = 200  # directions that rows lie around, the first ones far more often
ROUNDS = 5


def main() -> None:
    """Print the machine and a row for each size."""
    parser = Parser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[50_000, 200_000, 1_000_000])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(one(args.one, args.rows[0], args.width))
        return
    print(machine_line(CPU))
    found = [("rows", "on disk, MiB", "start, MiB", "peak, MiB", "minutes")]
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, __file__, "--rows", str(rows), "--width", str(args.width), "--one", folder]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        start, peak, minutes = said
        found.append((f"{rows:,}", f"{rows * args.width * 4 / 2**20:.0f}", start, peak, minutes))
    print(columns(found))


def one(home: Path, rows: int, width: int) -> str:
    """Memory before and at the peak, and minutes, of one size."""
    began = time.perf_counter()
    centres = torch.randn(GROUPS, width, generator=torch_generator(0, "centres"))
    images = Embeddings(home / "embeddings", (rows, width), "made-up")
    for number in range(images.shards):
        draw = torch_generator(0, "rows", number)
        groups = (GROUPS * torch.rand(images.rows_of(number), generator=draw).pow(3)).long()
        images.write(number, centres[groups] + 0.5 * torch.randn(len(groups), width, generator=draw))
    start = peak_memory_gib(CPU)
    hierarchy = cluster(images, LEVELS, rounds=ROUNDS, seed=0, home=home, ranks=ALONE, device=CPU)
    stage, dropped = drop(images, hierarchy, 0.98, home=home, ranks=ALONE)
    settings = Clustering(target=5000)
    sample(hierarchy, dropped, settings, seed=0, home=home, after=stage.address, ranks=ALONE)
    retrieve(images, images[:20].numpy(), 100, dropped, home=home, after=stage.address, ranks=ALONE)
    minutes = (time.perf_counter() - began) / 60
    return f"{start * 1024:.0f} {peak_memory_gib(CPU) * 1024:.0f} {minutes:.1f}"


if __name__ == "__main__":
    main()
