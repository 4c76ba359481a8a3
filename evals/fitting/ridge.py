"""Ridge regression in closed form, over more patches than fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from evals.features.feature_set import FeatureSet
from evals.features.matrix import PickedRows, Rows, blocks
from evals.features.scale import Scale, fit_scale


def ridge(
    x: Rows,
    y: Float[Tensor, "n K"],
    weight: Float[Tensor, " n"],
    *,
    l2: float,
    scale: Callable[[Tensor], Tensor] = lambda part: part,
    block: int = 16384,
) -> tuple[Float[Tensor, "D K"], Float[Tensor, " K"]]:
    """Minimise Σ w |y − xβ − b|² + l2 · Σ w · |β|² in float64, with x read in blocks and scaled; β and b in float32."""
    share, y = (weight / weight.sum()).double(), y.double()
    width = x.shape[1] + 1
    moments = torch.zeros(width, width + y.shape[1], dtype=torch.float64, device=y.device)
    for start, part in blocks(x, block):
        part = torch.cat([scale(part), torch.ones(len(part), 1)], 1).to(y.device).double()
        ours = slice(start, start + len(part))
        moments += (part * share[ours, None]).T @ torch.cat([part, y[ours]], 1)
    gram, mixed = moments[:, :width], moments[:, width:]
    middle, centre = gram[-1, :-1], mixed[-1]
    inner = gram[:-1, :-1] - middle.outer(middle)
    eye = torch.eye(len(inner), dtype=inner.dtype, device=inner.device)
    slope = torch.linalg.solve(inner + l2 * eye, mixed[:-1] - middle.outer(centre))
    bias = torch.stack([at - middle @ column for at, column in zip(centre, slope.unbind(1), strict=True)])
    return slope.float(), bias.float()


def ridge_of_patches(
    train: FeatureSet,
    targets: Iterable[tuple[Float[np.ndarray, "P K"], Float[np.ndarray, " P"]]],
    *,
    l2: float,
    device: str | torch.device,
) -> tuple[Scale, Float[Tensor, "D K"], Float[Tensor, " K"]] | None:
    """The scale of a set's patches, and the slope and bias that lead from scaled patches to their targets.

    Args:
        targets: of each image in turn, with the weight of each patch; patches of weight 0 are left out.

    Returns:
        None where all patches are.
    """
    target, weight = (np.concatenate(x) for x in zip(*targets, strict=True))
    known = np.flatnonzero(weight)
    if not len(known):
        return None
    x = PickedRows(train.dense(), train.rows()[known])
    y, w = (torch.from_numpy(values[known]).to(device) for values in (target, weight))
    scale = fit_scale(x)
    return scale, *ridge(x, y, w, l2=l2, scale=scale)
