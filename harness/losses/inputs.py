"""What every loss is computed from: the student's answers to a batch, and what the teachers ask for.

C = 2B global crops in crop-major order, L local crops of each image, P patches of a global crop, M of them masked in
all, K prototypes, D the width of the student. Where a step's batch is split over processes, or into parts that are
taken in turn, all of these are of one part.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from common.ranks import ALONE, Ranks
from harness.losses.cross_entropy import Scores


class Outputs(NamedTuple):
    """The student's answers: scores of class tokens, global [2, B, K] and local [L, B, K], and of the masked patches
    [M, K]; class tokens [2, B, D] and, where they are anchored, patches [C, P, D] after the final norm; which patches
    were masked, bool [C, P].

    ranks: the processes that hold the other images of the step, for a loss that compares images.
    """

    dino_global: Scores
    dino_local: Scores | None
    ibot: Scores | None
    cls: Tensor
    patches: Tensor | None
    masks: Tensor
    ranks: Ranks = ALONE


class Targets(NamedTuple):
    """What the teachers ask for: probabilities of class tokens [2, B, K] and of the masked patches [M, K]; the Gram
    teacher's patches [C, P, E]; the entropy of the first in nats, a scalar to watch.
    """

    dino: Tensor
    ibot: Tensor | None
    gram: Tensor | None
    entropy: Tensor


def of_images(outputs: Outputs, targets: Targets, images: Int[Tensor, " b"]) -> tuple[Outputs, Targets]:
    """What belongs to some images of the batch, `images` being their places in it, rising, on the CPU."""
    device, batch = outputs.cls.device, outputs.cls.shape[1]
    crops = torch.cat([images, images + batch])
    chosen = torch.zeros(2 * batch, dtype=torch.bool).index_fill_(0, crops, value=True)
    rows = chosen.repeat_interleave(outputs.masks.sum(1)).nonzero()[:, 0]

    def take(tensor: Tensor | None, axis: int, places: Tensor) -> Tensor | None:
        return None if tensor is None else tensor.index_select(axis, places.to(device, non_blocking=True))

    def score(scores: Scores | None, axis: int, places: Tensor) -> Scores | None:
        return None if scores is None else scores._replace(features=take(scores.features, axis, places))

    answers = {
        "dino_global": score(outputs.dino_global, 1, images),
        "dino_local": score(outputs.dino_local, 1, images),
        "ibot": score(outputs.ibot, 0, rows),
        "cls": take(outputs.cls, 1, images),
        "patches": take(outputs.patches, 0, crops),
        "masks": outputs.masks[crops],
        "ranks": ALONE,
    }
    asked = {
        "dino": take(targets.dino, 1, images),
        "ibot": take(targets.ibot, 0, rows),
        "gram": take(targets.gram, 0, crops),
    }
    return outputs._replace(**answers), targets._replace(**asked)
