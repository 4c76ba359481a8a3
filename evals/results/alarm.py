"""When a measure has fallen so far from its best that an alarm is raised: the rule that training and evidence share.

Imports no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping


def has_fallen(value: float, *, best: float, share: float) -> bool:
    """Whether a value lies below the best one by that share of the best one's size; an equal one never does."""
    return value < best and best - value >= share * abs(best)


def raised(values: Mapping[int, float], *, share: float) -> int | None:
    """The first step, in the order given, whose value has fallen by `share` of the best so far; None where none has.

    Higher values are the better ones: hand those of a measure whose lower side is healthy in with their sign changed.
    """
    best = -math.inf
    for step, value in values.items():
        best = max(best, value)
        if has_fallen(value, best=best, share=share):
            return step
    return None
