"""Products of float32 on this CPU by torch's own choice, oneMKL where it has it, and by oneDNN.

    python benchmarks/products.py [--square 256 1024] [--model nano] [--threads 1] [--seconds 1]

Square ones and those of a step of the models of benchmarks/step.py, of the same made-up matrices, in turns; that both
give the same is checked first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import chain
from math import inf
from pathlib import Path
from typing import Any, NamedTuple, cast

sys.path[0] = str(Path(__file__).resolve().parents[1])

import torch
import torch.nn.functional as F

from benchmarks.measure import in_turns, note
from benchmarks.step import MODELS, Case, settings_of
from benchmarks.told import Parser
from common.products import LEAST, by_onednn, onednn_is_faster
from common.speed import machine_line
from harness.counted import shapes
from harness.model import Network, patch_size

AGREE = 1e-5  # of the largest number of a product


class Product(NamedTuple):
    """x [rows, inner] · weightᵀ [inner, outputs]; `turned`: both lie in memory by columns, as where a weight's gradient
    is taken of gradients and features by rows.
    """

    name: str
    rows: int
    inner: int
    outputs: int
    turned: bool = False

    def __str__(self) -> str:
        return f"{self.name}, {self.rows} × {self.inner} × {self.outputs}"

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Made-up ones."""
        draws = torch.Generator().manual_seed(0)
        x, weight = (torch.randn(self.inner, n, generator=draws).T for n in (self.rows, self.outputs))
        return (x, weight) if self.turned else (x.contiguous(), weight.contiguous())


def of_model(name: str) -> Iterator[Product]:
    """The largest kinds of products in a step: of all tokens of the global crops, and of their class tokens."""
    settings = settings_of(Case(name, "off", "float32"))
    with torch.device("meta"):
        network = Network(settings)
    backbone = cast(Any, network.backbone)
    crops = shapes(settings, patch_size(backbone)).globals.flatten(0, 1)
    tokens = len(crops) * (crops[0, 0].numel() // patch_size(backbone) ** 2 + backbone.num_prefix_tokens)
    block = backbone.blocks[0]
    for part, layer in (("qkv", block.attn.qkv), ("MLP in", block.mlp.fc1), ("MLP out", block.mlp.fc2)):
        yield Product(f"{name} {part}", tokens, layer.in_features, layer.out_features)
    wide = block.mlp.fc1  # its gradient with more columns than rows, as `gradient_of_weight` takes it
    yield Product(f"{name} MLP in, gradient", wide.in_features, tokens, wide.out_features, turned=True)
    last = network.dino_head.prototypes
    yield Product(f"{name} prototypes", len(crops), last.in_features, last.out_features)


def measure(product: Product, *, seconds: float) -> dict[str, Any]:
    """GFLOP/s of both, and how many times as fast oneDNN is."""
    x, weight = product.factors()
    runs = {"torch": lambda: F.linear(x, weight), "onednn": lambda: by_onednn(x, weight)}
    want, found = (run() for run in runs.values())
    if not (found - want).abs().max() <= AGREE * want.abs().max() < inf:  # nor where one is not finite
        sys.exit(f"{product}: {(found - want).abs().max():.2g} apart: not the same product")
    best = in_turns(runs, seconds=seconds)
    work = 2 * product.rows * product.inner * product.outputs / 1e9
    rates = {f"{name}_gflops": work / time for name, time in best.items()}
    return {**rates, "ratio": best["torch"] / best["onednn"]}


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--square", type=int, nargs="*", default=[64, 128, 512, 1024, 2048], help="default: %(default)s"
    )
    parser.add_argument("--model", nargs="*", choices=MODELS, default=[*MODELS], help="default: both")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="default: all cores")
    given = parser.parse_args(argv)
    if given.threads:
        torch.set_num_threads(given.threads)
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        sys.exit("this torch was built without oneDNN: there is nothing to compare")
    device = torch.device("cpu")
    print(machine_line(device))
    taken = f"oneDNN from {LEAST:,} multiplications on" if onednn_is_faster() else "torch's own choice throughout"
    print(f"common/products.py takes {taken}, here on threads: {torch.get_num_threads()}")
    print(f"{'':44}{'torch, GFLOP/s':>16}{'oneDNN, GFLOP/s':>17}{'ratio':>7}")
    squares = [Product("square", side, side, side) for side in given.square]
    for product in (*squares, *chain.from_iterable(map(of_model, given.model))):
        found = measure(product, seconds=given.seconds)
        rates = f"{found['torch_gflops']:16.1f}{found['onednn_gflops']:17.1f}"
        print(f"{product!s:44}{rates}{found['ratio']:7.2f}", flush=True)
        if before := note("products", str(product), found, device=device):
            print(f"{'':44}{before}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
