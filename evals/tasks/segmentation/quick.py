"""Linear segmentation on cached patch features: one softmax head, solved, then judged at the masks' own size.

The quick form of DINOv3's linear segmentation (arXiv 2508.10104 §6.1, App. D): no augmentation, one
scale, whole images.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from common.bounds import About, Count, Positive
from common.schema import settings
from common.spread import spread
from evals.datasets.labelled_set import Needs
from evals.features.feature_set import FeatureSet
from evals.features.scale import fit_scale
from evals.fitting.softmax import solve
from evals.judging.pixel_classes import areas, classes_at, labelled, no_labels, same_segments, shares_of
from evals.protocols.protocol import Protocol, Watch


@settings
class QuickSegmentation(Protocol):
    """Softmax regression on standardised patches against the share of each class among the patch's pixels.

    Input: whole images, short side `size`, aspect kept, sides rounded to a multiple of the stride. Pixels marked
    ignore count nowhere; a patch weighs as much as its labelled part. L-BFGS on mean cross-entropy + l2/2 · |W|²,
    over at most `max_patches` evenly spread patches. Test logits go bilinearly (align_corners False) to the mask's
    size; areas by mmsegmentation's IoUMetric, mIoU over the data set.
    """

    method: ClassVar[str] = "segmentation"
    task: ClassVar[str] = "segmentation"
    needs: ClassVar[Needs] = "pixel classes"

    l2: Annotated[Positive, About("penalty on the squared weights, halved")]
    iterations: Annotated[Count, About("of L-BFGS, at most")]
    max_patches: Annotated[Count, About("training patches with a labelled pixel, at most, evenly spread")]


def metrics(_: QuickSegmentation) -> tuple[str, ...]:
    """The names of its metrics, the leading one first."""
    return "miou", "pixel_accuracy"


def evaluate(
    protocol: QuickSegmentation,
    train: FeatureSet,
    test: FeatureSet,
    *,
    device: str | torch.device = "cpu",
    watch: Watch | None = None,
) -> dict[str, np.ndarray]:
    """Per test image: right, predicted and true pixels by class, `intersect`, `predicted`, `truth` [n C].

    Args:
        watch: also told the predicted pixel classes [H W] of each test image.

    Raises:
        BadInput: sets without masks, or with unlike class lists, or without a labelled pixel.
    """
    classes = same_segments(train.dataset, test.dataset)
    x, y = training_patches(train, classes, most=protocol.max_patches)
    scale = fit_scale(x)
    x = scale.in_place(x).to(device)
    weight, bias = solve(x, y.to(device), l2=protocol.l2, iterations=protocol.iterations)
    del x

    def guess(index: int, shape: tuple[int, int]) -> Int[np.ndarray, "H W"]:
        logits = scale(test.patches(index)).to(device) @ weight + bias
        return classes_at(logits.T.reshape(-1, *test.grid(index)), shape).cpu().numpy()

    guesses = ((index, partial(guess, index)) for index in range(len(test)))
    return areas(test.dataset, guesses, title="segmentation", watch=watch)


def training_patches(
    train: FeatureSet, classes: int, *, most: int
) -> tuple[Float[Tensor, "n D"], Float[Tensor, "n C"]]:
    """At most `most` evenly spread patches with a labelled pixel, and the share of each class among their pixels.

    Masks are read twice, so that shares are held of the chosen patches alone.

    Raises:
        BadInput: no labelled pixel at all.
    """
    known = [labelled(train.dataset.mask(i), train.grid(i)) for i in range(len(train))]
    chosen = np.flatnonzero(np.concatenate(known))
    if not len(chosen):
        raise no_labels(train.dataset)
    chosen = chosen[spread(range(len(chosen)), most)]
    taken = np.zeros(sum(map(len, known)), bool)
    taken[chosen] = True
    parts = np.split(taken, np.cumsum([len(part) for part in known[:-1]]))
    shares = [
        shares_of(train.dataset.mask(i), train.grid(i), classes)[part] for i, part in enumerate(parts) if part.any()
    ]
    return train.dense()[train.rows()[chosen]], torch.from_numpy(np.concatenate(shares))
