"""What every loss is computed from: the student's answers to a batch, and what the teachers ask for.

C = 2B global crops in crop-major order, L local crops of each image, P patches of a global crop, M of them masked in
all, K prototypes, D the width of the student.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Outputs(NamedTuple):
    """The student's answers: logits of class tokens, global [2, B, K] and local [L, B, K], and of the masked patches
    [M, K]; class tokens [2, B, D] and patches [C, P, D] after the final norm; which patches were masked, bool [C, P].
    """

    dino_global: Tensor
    dino_local: Tensor | None
    ibot: Tensor | None
    cls: Tensor
    patches: Tensor
    masks: Tensor


class Targets(NamedTuple):
    """What the teachers ask for: probabilities of class tokens [2, B, K] and of the masked patches [M, K]; the Gram
    teacher's patches [C, P, E]; the entropy of the first in nats, a scalar to watch.
    """

    dino: Tensor
    ibot: Tensor | None
    gram: Tensor | None
    entropy: Tensor
