"""The forward pass of a Gram teacher, by our code and by timm's: share of the peak, and the ratio of both.

    python benchmarks/teacher.py [--size 448 224] [--precision float32 bfloat16] [--model vits_smoke.yaml]

Both see the same made-up crops with the same fresh weights, in turns on one thread, whose time is counted, with a large
product between them, of whose rate the share is; that their patches agree is checked first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import product as pairs
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import torch
from torch import Tensor

from benchmarks.measure import in_turns, large_product, note
from benchmarks.told import Parser
from common.heap import keep_freed_memory
from common.products import fast_linear
from common.speed import machine_line
from harness.config import load
from harness.model import Network, encode

CPU = torch.device("cpu")
AGREE = {"float32": 1e-4, "bfloat16": 5e-2}  # of the largest number of a patch
TIMES = 16  # that the large product is taken at once
SCALE = 0.1  # of the branches, which a fresh network adds at 1e-5 of what they compute


def teacher(name: str) -> torch.nn.Module:
    """The backbone of an experiment file, with weights of its start."""
    torch.manual_seed(0)
    backbone = Network(load(ROOT / "experiments" / name, [])).backbone.eval()
    for key, parameter in backbone.named_parameters():
        if "gamma" in key:
            parameter.data.fill_(SCALE)
    return backbone


def operations(backbone: Any, crops: Tensor) -> int:
    """Of the products of its blocks: four of all tokens with matrices, 12 D² numbers in all, and two of attention."""
    width, patch = backbone.embed_dim, backbone.patch_embed.patch_size[0]
    tokens = backbone.num_prefix_tokens + (crops.shape[-1] // patch) ** 2
    return len(crops) * len(backbone.blocks) * (2 * 12 * width**2 * tokens + 4 * tokens**2 * width)


def ours(backbone: Any, crops: Tensor) -> Tensor:
    """Its patches as a step computes them."""
    with fast_linear():
        return encode(backbone, crops).patches


def timms(backbone: Any, crops: Tensor) -> Tensor:
    """Its patches by the model's own forward pass."""
    return backbone.forward_features(crops)[:, backbone.num_prefix_tokens :]


def measure(backbone: torch.nn.Module, size: int, precision: str, given: argparse.Namespace) -> dict[str, float]:
    """All that is told of crops of one size in one precision."""
    half = precision == "bfloat16"
    crops = torch.randn(given.crops, 3, size, size, generator=torch.Generator().manual_seed(0))
    sides = {"ours": partial(ours, backbone, crops), "plain": partial(timms, backbone, crops)}
    product, of_product = large_product(CPU, precision)
    runs: dict[str, Callable[[], object]] = {**sides, "peak": lambda: [product() for _ in range(TIMES)]}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
        mine, theirs = (run() for run in sides.values())
        if not (apart := (mine - theirs).abs().max()) <= AGREE[precision] * theirs.abs().max():
            sys.exit(f"{size} pixels, {precision}: patches differ by {apart:.3g}: not the same work")
        best = in_turns(runs, seconds=given.seconds, clock=time.process_time)
    rate, peak = operations(backbone, crops) / best["ours"], of_product * TIMES / best["peak"]
    found = {"gflops": rate / 1e9, "peak_gflops": peak / 1e9, "of_peak": rate / peak}
    return {**found, "plain_of_peak": rate / peak * best["ours"] / best["plain"], "ratio": best["plain"] / best["ours"]}


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="vits_smoke.yaml", help="an experiment's file (default: %(default)s)")
    parser.add_argument("--size", type=int, nargs="+", default=[448, 224], help="pixels (default: %(default)s)")
    parser.add_argument("--crops", type=int, default=8, help="default: %(default)s")
    parser.add_argument("--precision", nargs="+", choices=[*AGREE], default=[*AGREE], help="default: both")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each of both at least (default: %(default)s)")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    keep_freed_memory()
    backbone = teacher(given.model)
    print(machine_line(CPU))
    print(f"{'':24}{'GFLOP/s':>9}{'peak':>7}{'share':>9}{'timm':>9}{'ratio':>7}")
    for size, precision in pairs(given.size, given.precision):
        found = measure(backbone, size, precision, given)
        rates = f"{found['gflops']:9.0f}{found['peak_gflops']:7.0f}"
        shares = f"{100 * found['of_peak']:7.0f} %{100 * found['plain_of_peak']:7.0f} %{found['ratio']:7.2f}"
        print(f"{f'{size} pixels, {precision}':24}{rates}{shares}", flush=True)
        if before := note("teacher", f"{given.model}, {size}, {precision}", found, device=CPU):
            print(f"{'':24}{before}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
