"""Linear surface normals on cached patch features: ridge regression of a patch's mean normal, judged at every pixel.

The task and its measures are those of Fouhey, Gupta, Hebert, ICCV 2013, and of Eigen, Fergus, ICCV 2015 (arXiv
1411.4734 §5.2); Probe3D (arXiv 2404.08636) asks it of frozen backbones, with a convolutional head that is trained on
four layers. Here one linear map of the last layer's patches is solved in closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from common.bounds import About, Positive
from common.errors import BadInput
from common.progress import Bar
from common.schema import settings
from evals.datasets.labelled_set import LabelledSet, Needs
from evals.features.feature_set import FeatureSet
from evals.features.view import cell_means
from evals.fitting.ridge import ridge_of_patches
from evals.protocols.protocol import Protocol, Watch
from evals.results.table import Outcomes

LIMITS = {"within_11": 11.25, "within_22": 22.5, "within_30": 30.0}  # degrees, exclusive


@settings
class QuickNormals(Protocol):
    """Ridge regression from standardised patches to the mean normal of the patch's cell.

    Input: whole images, short side `size`, aspect kept, sides rounded to a multiple of the stride. A patch weighs as
    much as the part of its cell whose normals are known; the penalty is `l2` · total weight · |W|², the bias is free.
    Predictions: bilinear (align_corners False) to the truth's size, there brought to unit length. The mean angle to the
    truth, and shares of pixels within 11.25, 22.5 and 30 degrees, per image and then averaged over images.
    """

    method: ClassVar[str] = "normals"
    task: ClassVar[str] = "normals"
    needs: ClassVar[Needs] = "surface normals"

    l2: Annotated[Positive, About("penalty on the squared weights, times the total weight of the patches")]


def metrics(_: QuickNormals) -> tuple[str, ...]:
    """The names of its metrics, the leading one first."""
    return "angle", *LIMITS


def evaluate(
    protocol: QuickNormals,
    train: FeatureSet,
    test: FeatureSet,
    *,
    device: str | torch.device = "cpu",
    watch: Watch | None = None,
) -> dict[str, np.ndarray]:
    """Per test image with a known normal: the measures of `errors`, one array [n] each.

    Args:
        watch: also told the predicted unit normals [H W 3] of each of these images, NaN where the truth is unknown.

    Raises:
        BadInput: a set without normals, or without one known normal.
    """
    targets = (patch_targets(train.dataset.surfaces(i).normals, train.grid(i)) for i in range(len(train)))
    if (head := ridge_of_patches(train, targets, l2=protocol.l2, device=device)) is None:
        raise _no_normals(train.dataset)
    scale, slope, bias = head
    found: dict[str, list] = {"keys": []}
    for index in Bar(range(len(test)), desc="normals", unit="image"):
        truth = test.dataset.surfaces(index).normals
        counts = np.any(truth, axis=2)
        if not counts.any():
            continue
        said = scale(test.patches(index)).to(device) @ slope + bias
        guess = predict(said, test.grid(index), (truth.shape[0], truth.shape[1]))
        if watch:
            watch(index, np.where(counts[..., None], guess, np.float32(np.nan)))
        found["keys"].append(test.dataset.key(index))
        for name, value in errors(guess[counts], truth[counts]).items():
            found.setdefault(name, []).append(value)
    if not found["keys"]:
        raise _no_normals(test.dataset)
    return {name: np.array(values) for name, values in found.items()}


def notes(dataset: LabelledSet, outcomes: Outcomes) -> Iterator[str]:
    """How many images have no normal that is known."""
    if without := len(dataset) - len(outcomes["keys"]):
        yield f"images without a known normal are left out: {without}"


def patch_targets(
    normals: Float[np.ndarray, "H W 3"], grid: tuple[int, int]
) -> tuple[Float[np.ndarray, "P 3"], Float[np.ndarray, " P"]]:
    """The mean normal of each patch's cell, shorter than 1 where the cell faces several ways, and its known share."""
    known = np.asarray(normals.any(2))
    return cell_means(normals[known], known, grid)


def predict(said: Float[Tensor, "P 3"], grid: tuple[int, int], shape: tuple[int, int]) -> Float[np.ndarray, "H W 3"]:
    """Unit normals at the truth's size; what has no direction stays 0 and is 90 degrees off."""
    full = F.interpolate(said.T.reshape(1, 3, *grid), size=shape, mode="bilinear", align_corners=False)[0]
    return F.normalize(full, dim=0).permute(1, 2, 0).cpu().numpy()


def errors(prediction: Float[np.ndarray, "n 3"], truth: Float[np.ndarray, "n 3"]) -> dict[str, float]:
    """The mean angle between unit vectors in degrees, and the share of pixels below each of `LIMITS`, in float64."""
    off = angles(prediction, truth)
    return {"angle": float(off.mean()), **{name: float((off < limit).mean()) for name, limit in LIMITS.items()}}


def angles(one: Float[np.ndarray, "... 3"], other: Float[np.ndarray, "... 3"]) -> np.ndarray:
    """Degrees, 0 to 180, between vectors, 90 where one has no direction; by the arc tangent, since the arc cosine loses
    small angles.
    """
    one, other = one.astype(np.float64), other.astype(np.float64)
    across, along = np.linalg.norm(np.cross(one, other), axis=-1), (one * other).sum(-1)
    return np.where((across == 0) & (along == 0), 90.0, np.degrees(np.arctan2(across, along)))


def _no_normals(dataset: LabelledSet) -> BadInput:
    return BadInput(
        f"got no known normal in {dataset.name} ({dataset.split}): want unit vectors; do check its surfaces"
    )
