"""Which images make up a step's batch: from the whole pool, or from one component only (DINOv3 §3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from common import draws


class Composition(NamedTuple):
    """Indices into the pool, int64 [B], and the component they all come from, or None for the whole pool."""

    indices: np.ndarray
    component: str | None


def compose(
    seed: int,
    step: int,
    components: Mapping[str, np.ndarray],
    *,
    pool_size: int,
    batch_size: int,
    homogeneous_share: float,
) -> Composition:
    """The batch of a step: with probability `homogeneous_share` from one component, drawn in proportion to its size.

    Without replacement within the batch, unless there are fewer images than the batch takes. A mixed batch is the same
    whatever the share, so that runs with different shares agree on the steps that both mix.
    """
    if draws.uniforms(seed, step, "mixing/share", 1)[0] >= homogeneous_share:
        return Composition(_take(seed, step, "mixing/pool", pool_size, batch_size), None)
    ends = np.cumsum([len(members) for members in components.values()])
    place = draws.uniforms(seed, step, "mixing/component", 1)[0] * ends[-1]
    name = list(components)[int(np.searchsorted(ends, place, side="right"))]
    members = components[name]
    return Composition(members[_take(seed, step, "mixing/members", len(members), batch_size)], name)


def _take(seed: int, step: int, purpose: str, population: int, count: int) -> np.ndarray:
    return draws.philox(seed, step, purpose).choice(population, count, replace=population < count)
