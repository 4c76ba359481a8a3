"""Linear depth on cached patch features: ridge regression of log-depth, judged at the depth maps' own size.

The quick form of DINOv3's linear NYUv2 depth (arXiv 2508.10104 §6.1, App. D): valid range, clamping and per-image
averaging as there; the head is solved in closed form in place of the 256-bin head and its SigLoss training.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from common.bounds import About, Positive
from common.schema import settings
from evals.datasets.labelled_set import Needs
from evals.features.feature_set import FeatureSet
from evals.features.view import cell_means
from evals.fitting.ridge import ridge_of_patches
from evals.protocols.protocol import Protocol, Watch
from evals.tasks.depth import errors

HEADROOM = 16.0  # of log-depth above the valid range


@settings
class QuickDepth(Protocol):
    """Ridge regression from standardised patches to the mean log-depth of the patch's valid pixels.

    Input: whole images, short side `size`, aspect kept, sides rounded to a multiple of the stride. Valid means
    `min_depth` < depth < `max_depth` (metres). A patch weighs as much as its valid part; the penalty is
    `l2` · total weight · |w|², the bias is free. Predictions: exp, bilinear (align_corners False) to the map's size,
    clamped to the valid range; RMSE and δ1 per image, then averaged over images that have a valid pixel.
    """

    method: ClassVar[str] = "depth"
    task: ClassVar[str] = "depth"
    needs: ClassVar[Needs] = "depth"

    l2: Annotated[Positive, About("penalty on the squared weights, times the total weight of the patches")]
    min_depth: Annotated[Positive, About("metres, exclusive; pixels that are not farther do not count")]
    max_depth: Annotated[Positive, About("metres, exclusive; pixels that are not nearer do not count")]

    def conflicts(self) -> Iterator[str]:
        """No depth in between."""
        if self.min_depth >= self.max_depth:
            yield f"min_depth={self.min_depth}: want below max_depth={self.max_depth}"


def metrics(_: QuickDepth) -> tuple[str, ...]:
    """The names of its metrics, the leading one first."""
    return "rmse", "delta1"


def evaluate(
    protocol: QuickDepth,
    train: FeatureSet,
    test: FeatureSet,
    *,
    device: str | torch.device = "cpu",
    watch: Watch | None = None,
) -> dict[str, np.ndarray]:
    """Per test image with a valid pixel: the errors of `evals.tasks.depth.errors`, one array [n] each.

    Args:
        watch: also told the predicted metres [H W] of each of these images, NaN where they are not judged: where the
            truth is outside the valid range.

    Raises:
        BadInput: a set without depth, or without one valid pixel.
    """
    errors.refuse_without_depth(train.dataset, test.dataset)
    targets = (_patch_targets(protocol, train.dataset.depth(i), train.grid(i)) for i in range(len(train)))
    if (found := ridge_of_patches(train, targets, l2=protocol.l2, device=device)) is None:
        raise errors.no_depth(train.dataset)
    scale, slope, bias = found[0], found[1][:, 0], found[2][0]

    def guess(index: int, shape: tuple[int, int]) -> Float[np.ndarray, "H W"]:
        log_depth = scale(test.patches(index)).to(device) @ slope + bias
        return predict(protocol, log_depth, test.grid(index), shape)

    low, high = limits = protocol.min_depth, protocol.max_depth
    valid = partial(errors.within, low=low, high=high)
    return errors.judge(test.dataset, guess, valid=valid, limits=limits, title="depth", watch=watch)


def predict(
    protocol: QuickDepth, log_depth: Float[Tensor, " P"], grid: tuple[int, int], shape: tuple[int, ...]
) -> Float[np.ndarray, "H W"]:
    """Metres at the truth's size, clamped to the protocol's range.

    Interpolated as metres before that, and a patch may say far more than the range holds; but not infinity, which its
    neighbours would turn into NaN: what exceeds the range by e^`HEADROOM` says no more than that.
    """
    maps = log_depth.clamp(max=math.log(protocol.max_depth) + HEADROOM).exp().view(1, 1, *grid)
    full = F.interpolate(maps, size=tuple(shape), mode="bilinear", align_corners=False)[0, 0]
    return full.clamp(protocol.min_depth, protocol.max_depth).cpu().numpy()


def _patch_targets(protocol: QuickDepth, depth: np.ndarray, grid: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    valid = errors.within(depth, protocol.min_depth, protocol.max_depth)
    return cell_means(np.log(depth[valid].astype(np.float64))[:, None], valid, grid)
