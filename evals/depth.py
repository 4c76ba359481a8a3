"""Linear depth on cached patch features: ridge regression of log-depth, judged at the depth maps' own size.

The quick form of DINOv3's linear NYUv2 depth (arXiv 2508.10104 §6.1, App. D): valid range, clamping and per-image
averaging as there; the head is solved in closed form in place of the 256-bin head and its SigLoss training.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from evals.errors import BadInput
from evals.features import FeatureSet, cells, fit_scale
from evals.protocol import Layout, Protocol


@dataclass(frozen=True, kw_only=True)
class Depth(Protocol):
    """Ridge regression from standardised patches to the mean log-depth of the patch's valid pixels.

    Input: whole images, short side `size`, aspect kept, sides rounded to a multiple of the stride. Valid means
    `min_depth` < depth < `max_depth` (metres). A patch weighs as much as its valid part; the penalty is
    `l2` · total weight · |w|², the bias is free. Predictions: exp, bilinear (align_corners False) to the map's size,
    clamped to the valid range; RMSE and δ1 per image, then averaged over images that have a valid pixel.
    """

    family: str = "depth"
    name: str = "depth-quick"
    version: int = 1
    layout: Layout = "whole"
    l2: float = 1e-3
    min_depth: float = 1e-3
    max_depth: float = 10.0


METRICS = ("rmse", "delta1")


def evaluate(
    protocol: Depth, train: FeatureSet, test: FeatureSet, *, device: str | torch.device = "cpu"
) -> dict[str, np.ndarray]:
    """Per test image with a valid pixel: `rmse` in metres and `delta1`, a fraction.

    Raises:
        BadInput: a set without depth, or without one valid pixel.
    """
    _check(train, test)
    tokens, grids = train.dense()
    pairs = [_patch_targets(protocol, train.dataset.depth(i), grid) for i, grid in enumerate(grids)]
    target, weight = (torch.from_numpy(np.concatenate(x)).to(device) for x in zip(*pairs, strict=True))
    valid = weight > 0
    if not valid.any():
        raise BadInput(
            f"got no valid depth in {train.dataset.name}: want metres below {protocol.max_depth}; do check it"
        )
    scale = fit_scale(tokens[valid.cpu()])
    slope, bias = ridge(scale(tokens).to(device)[valid], target[valid], weight[valid], l2=protocol.l2)
    found: dict[str, list] = {"keys": [], "rmse": [], "delta1": []}
    test_tokens, test_grids = test.dense()
    for i, span in enumerate(tqdm(test.spans(), desc="depth", unit="image", disable=None, leave=False)):
        truth = test.dataset.depth(i)
        guess = predict(protocol, scale(test_tokens[span].to(device)) @ slope + bias, test_grids[i], truth.shape)
        errors = compare(protocol, guess, truth)
        if errors is not None:
            for name, value in zip(found, (test.keys[i], *errors), strict=True):
                found[name].append(value)
    if not found["keys"]:
        raise BadInput(
            f"got no valid depth in {test.dataset.name}: want metres below {protocol.max_depth}; do check it"
        )
    return {name: np.array(values) for name, values in found.items()}


def ridge(
    x: Float[Tensor, "n D"], y: Float[Tensor, " n"], weight: Float[Tensor, " n"], *, l2: float
) -> tuple[Float[Tensor, " D"], Float[Tensor, ""]]:
    """Minimise Σ w (y − xβ − b)² + l2 · Σ w · |β|² in float64; returns β and b in x's dtype."""
    share = (weight / weight.sum()).double()
    middle, centre = share @ x.double(), share @ y.double()
    gram = (x.double() * share[:, None]).T @ x.double() - middle.outer(middle)
    moment = (x.double() * share[:, None]).T @ y.double() - middle * centre
    slope = torch.linalg.solve(gram + l2 * torch.eye(len(gram), dtype=gram.dtype, device=gram.device), moment)
    return slope.to(x.dtype), (centre - middle @ slope).to(x.dtype)


def predict(
    protocol: Depth, log_depth: Float[Tensor, " P"], grid: tuple[int, int], shape: tuple[int, ...]
) -> Float[np.ndarray, "H W"]:
    """Metres at the truth's size, clamped to the protocol's range."""
    maps = log_depth.exp().view(1, 1, *grid)
    full = F.interpolate(maps, size=tuple(shape), mode="bilinear", align_corners=False)[0, 0]
    return full.clamp(protocol.min_depth, protocol.max_depth).cpu().numpy()


def compare(
    protocol: Depth, guess: Float[np.ndarray, "H W"], truth: Float[np.ndarray, "H W"]
) -> tuple[float, float] | None:
    """RMSE in metres and δ1 (share of pixels with max(g/t, t/g) < 1.25); None without a valid pixel."""
    valid = (truth > protocol.min_depth) & (truth < protocol.max_depth)
    if not valid.any():
        return None
    g, t = guess[valid].astype(np.float64), truth[valid].astype(np.float64)
    return float(np.sqrt(np.mean((g - t) ** 2))), float(np.mean(np.maximum(g / t, t / g) < 1.25))


def _patch_targets(protocol: Depth, depth: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    cell, patches = cells((depth.shape[0], depth.shape[1]), grid), grid[0] * grid[1]
    valid = (depth > protocol.min_depth) & (depth < protocol.max_depth)
    pixels = np.bincount(cell[valid], minlength=patches)
    logs = np.bincount(cell[valid], weights=np.log(depth[valid].astype(np.float64)), minlength=patches)
    everything = np.bincount(cell.ravel(), minlength=patches)
    target, weight = logs / np.maximum(pixels, 1), pixels / np.maximum(everything, 1)
    return target.astype(np.float32), weight.astype(np.float32)


def _check(train: FeatureSet, test: FeatureSet) -> None:
    for features in (train, test):
        if not features.dataset.has_depth:
            raise BadInput(f"got {features.dataset.name} without depth: want a set with it; do name another set")
