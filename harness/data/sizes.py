"""Which sides the crops of a step have: those of the settings, or one of several triples that is drawn for the step.

DINOv3 (arXiv 2508.10104) adapts to high resolution on a mixture of sizes (the recipe's §10).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from common import draws
from common.errors import BadInput
from evals.features.view import refuse_uneven
from harness.crop_settings import Crops


class Sides(NamedTuple):
    """Sides of a step's crops in pixels, and how probable they are; those for a Gram teacher may be fractions."""

    globals: float
    locals: float
    gram: float
    probability: float = 1.0


def sides(crops: Crops, *, resolution: float = 1.0) -> list[Sides]:
    """All that a step may have; `resolution`: side of Gram crops over that of the global ones, where none is given."""
    if crops.sizes is None:
        return [Sides(crops.global_size, crops.local_size, crops.global_size * resolution)]
    return [
        Sides(one.global_size, one.local_size, one.gram_size or one.global_size * resolution, one.probability)
        for one in crops.sizes
    ]


def drawn(found: Sequence[Sides], seed: int, step: int) -> int:
    """Which of them a step has: a function of these three alone."""
    if len(found) == 1:
        return 0
    ends = np.cumsum([one.probability for one in found])
    place = draws.uniforms(seed, step, "crops/sizes", 1)[0] * ends[-1]
    return int(np.searchsorted(ends, place, side="right"))


def mean(found: Sequence[Sides]) -> Sides:
    """The mean sides over steps."""
    total = sum(one.probability for one in found)
    return Sides(*(sum(one.probability * one[kind] for one in found) / total for kind in range(3)))


def most_seen(found: Sequence[Sides]) -> int:
    """The side of the global crops that most steps have, of equal shares the larger: there patches are learnt most."""
    shares = dict[float, float]()
    for one in found:
        shares[one.globals] = shares.get(one.globals, 0.0) + one.probability
    return int(max(shares, key=lambda side: (round(shares[side], 6), side)))


def refuse_uneven_crops(crops: Crops, patch: int) -> None:
    """Raises BadInput for global and local crops that patches of `patch` pixels do not divide, a line for each."""
    where = ["crops"] if crops.sizes is None else [f"crops.sizes[{number}]" for number in range(len(crops.sizes))]
    faults = []
    for place, one in zip(where, sides(crops), strict=True):
        for key, side in (("global_size", one.globals), ("local_size", one.locals)):
            try:
                refuse_uneven(f"{place}.{key}={side}", int(side), patch)
            except BadInput as error:
                faults.append(str(error))
    if faults:
        raise BadInput("\n".join(faults))
