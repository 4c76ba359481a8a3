"""Health of dense features without labels: how patches relate to the class token, to their neighbours, to each other.

Measures of DINOv3 §4 (arXiv 2508.10104), RankMe (2210.02885), registers (2309.16588) and DSE (2510.17299). Each comes
as one number per image, so that intervals and paired differences over images work as for every other evaluation.
Patches and class tokens are those after the final norm.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from common.errors import BadInput
from evals.datasets.labelled_set import LabelledSet
from evals.features.feature_set import FeatureSet
from evals.features.matrix import Rows
from evals.tasks.health import dse
from evals.tasks.health.effective_rank import patch_ranks, row_ranks
from evals.tasks.health.patch_grid import Patches
from evals.tasks.health.settings import Health

FEWEST_IMAGES = 8


def metrics(protocol: Health, *, reference: bool = False) -> tuple[str, ...]:
    """What `evaluate` gives, the main metric first; with `reference` it was given one."""
    names = ("dse", "dse_inter", "dse_intra", "dse_dim", "cls_patch_cosine", "locality")
    names += ("effective_rank", "rankme", "norm_outliers")
    return (*names, "gram_drift") if reference else names


def preconditions(_: Health, __: LabelledSet | None, test: LabelledSet) -> None:
    """Raises BadInput for what `evaluate` refuses, as far as counts tell."""
    _enough(len(test))


def evaluate(
    protocol: Health,
    test: FeatureSet,
    *,
    device: str | torch.device = "cpu",
    reference: FeatureSet | None = None,
) -> dict[str, np.ndarray]:
    """Per image one number for every metric, whose mean over images is the measure.

    Args:
        reference: features of another network on the same images; adds `gram_drift`.

    Raises:
        BadInput: fewer than eight images, too small a grid of patches, grids that differ, a reference on other images.
    """
    other = None
    if reference is not None:
        if reference.keys != test.keys:
            raise BadInput(
                f"got a reference of {len(reference)} other images than the {len(test)} that are judged: want the "
                "same images in the same order; do extract both from one set"
            )
        other = Patches.of(reference)
    found = _measure(protocol, Patches.of(test), test.pooled, device=device, reference=other)
    return {"keys": np.array(test.keys), **found}


def measure(
    tokens: Float[Tensor, "B P D"],
    pooled: Float[Tensor, "B D"],
    *,
    protocol: Health,
    grid: tuple[int, int] | None = None,
    device: str | torch.device = "cpu",
    reference: Float[Tensor, "B P E"] | None = None,
    lengths: Float[Tensor, "B P"] | None = None,
) -> dict[str, np.ndarray]:
    """The same measures of features that are at hand, e.g. of a network in training on a fixed set of images.

    Args:
        tokens: row-major patches after the final norm, on `grid`, square where that is not given.
        pooled: class tokens after the final norm.
        reference: patches of another network on the same images; adds `gram_drift`.
        lengths: norms of the patches before the final norm; `norm_outliers` then reads these, since a LayerNorm hides
            most of them.

    Raises:
        BadInput: as `evaluate`, and for shapes that do not fit.
    """
    _check_shapes(tokens, pooled, lengths)
    side = round(tokens.shape[1] ** 0.5)
    patches = Patches.in_memory(tokens, grid or (side, side))
    if lengths is not None:
        patches = replace(patches, lengths=lengths.detach().float().cpu().reshape(-1, 1))
    other = None if reference is None else Patches.in_memory(reference, grid or (side, side))
    return _measure(protocol, patches, pooled.detach().float().cpu(), device=device, reference=other)


def _measure(
    protocol: Health, patches: Patches, pooled: Rows, *, device: str | torch.device, reference: Patches | None
) -> dict[str, np.ndarray]:
    _check(patches, reference)
    found = _cosines(patches, pooled, device=device, reference=reference)
    found["norm_outliers"] = norm_outliers(patches.norms().double().numpy(), protocol.outlier_factor)
    found["effective_rank"] = patch_ranks(patches).numpy()
    found["rankme"] = row_ranks(pooled[:]).numpy()
    terms = dse.measure(patches.as_units() if protocol.unit_length else patches, protocol, device=device)
    found |= {"dse": terms.dse, "dse_inter": terms.inter, "dse_intra": terms.intra, "dse_dim": terms.dim}
    return {name: found[name] for name in metrics(protocol, reference=reference is not None)}


def _check(patches: Patches, reference: Patches | None) -> None:
    _enough(len(patches))
    if max(patches.grid) < 3:
        raise BadInput(
            f"got {patches.grid[0]} x {patches.grid[1]} patches an image, all of them neighbours: want a side of at "
            "least 3; do use a larger input size"
        )
    if reference is not None and (len(reference), reference.grid) != (len(patches), patches.grid):
        raise BadInput(
            f"got a reference with {len(reference)} x {reference.grid} patches for {len(patches)} x {patches.grid}: "
            "want the same images and grid; do use networks of one patch size"
        )


def _enough(images: int) -> None:
    if images < FEWEST_IMAGES:
        raise BadInput(f"got {images} images: want at least {FEWEST_IMAGES}; do add some")


def _check_shapes(tokens: Tensor, pooled: Tensor, lengths: Tensor | None) -> None:
    if tokens.ndim != 3 or pooled.shape != (tokens.shape[0], tokens.shape[2]):
        raise BadInput(
            f"got patches {list(tokens.shape)} and class tokens {list(pooled.shape)}: want [B, P, D] and [B, D]; "
            "do pass both of the same images"
        )
    if lengths is not None and lengths.shape != tokens.shape[:2]:
        raise BadInput(
            f"got lengths {list(lengths.shape)} for patches {list(tokens.shape)}: want one a patch, [B, P]; do pass "
            "both of one network"
        )


def _cosines(
    patches: Patches, pooled: Rows, *, device: str | torch.device, reference: Patches | None
) -> dict[str, np.ndarray]:
    """What one walk over the images gives: per-image means."""
    found: dict[str, list[Tensor]] = {"cls_patch_cosine": [], "locality": [], "gram_drift": []}
    for which, block in patches.blocks():
        x = block.to(device)
        found["cls_patch_cosine"].append(cls_patch_cosine(x, pooled[which].to(device)))
        found["locality"].append(locality(x, patches.grid))
        if reference is not None:
            other = reference.images(range(which.start, which.stop)).to(device)
            found["gram_drift"].append(gram_drift(x, other))
    return {name: torch.cat(parts).double().cpu().numpy() for name, parts in found.items() if parts}


def cls_patch_cosine(tokens: Float[Tensor, "B P D"], pooled: Float[Tensor, "B D"]) -> Float[Tensor, " B"]:
    """Mean cosine between the class token and the patches of each image (DINOv3 §4, fig. 5)."""
    return F.cosine_similarity(tokens, pooled[:, None], dim=2).mean(1)


def locality(tokens: Float[Tensor, "B P D"], grid: tuple[int, int]) -> Float[Tensor, " B"]:
    """Mean cosine of a patch with its up to 8 neighbours less that with all patches farther off, over patches.

    Patches at the border have the neighbours that the grid holds; a patch that has no farther one is left out. Sums of
    cosines come from sums of unit vectors, so that no P × P matrix is made. The number behind DINOv3's figure 6.
    """
    units = F.normalize(tokens, dim=2)
    maps = units.mT.reshape(len(units), -1, *grid)
    near = _window(maps).flatten(2).mT - units
    near_sum = (units * near).sum(2)
    far_sum = (units * (units.sum(1, keepdim=True) - units)).sum(2) - near_sum
    near_count = _window(maps.new_ones(1, 1, *grid)).flatten() - 1
    far_count = units.shape[1] - 1 - near_count
    inner = far_count > 0
    gap = near_sum[:, inner] / near_count[inner] - far_sum[:, inner] / far_count[inner]
    return gap.mean(1)


def gram_drift(one: Float[Tensor, "B P D"], other: Float[Tensor, "B P E"]) -> Float[Tensor, " B"]:
    """Mean squared difference of the two matrices of cosines between patches of each image; widths may differ.

    With unit rows x, y, d = x − y and s = x + y: 2 (xxᵀ − yyᵀ) = sdᵀ + dsᵀ, which keeps its digits where both are
    nearly equal. The squared norm is taken over patches or over channels, whichever are fewer.
    """
    width = max(one.shape[2], other.shape[2])
    x, y = (F.pad(F.normalize(z.float(), dim=2), (0, width - z.shape[2])) for z in (one, other))
    d, s, patches = x - y, x + y, x.shape[1]
    if patches <= width:
        half = s @ d.mT / 2
        return (half + half.mT).square().mean((1, 2))
    cross = s.mT @ d
    return ((d.mT @ d * (s.mT @ s)).sum((1, 2)) + (cross * cross.mT).sum((1, 2))) / (2 * patches**2)


def norm_outliers(norms: Float[np.ndarray, "n P"], factor: float) -> Float[np.ndarray, " n"]:
    """Share of each image's patches whose norm exceeds `factor` times the median over all patches of the set."""
    return (norms > factor * np.median(norms)).mean(1)


def _window(maps: Float[Tensor, "B D h w"]) -> Float[Tensor, "B D h w"]:
    """Sum over the 3 × 3 window around each place."""
    return F.avg_pool2d(maps, 3, stride=1, padding=1, divisor_override=1)
