"""Which checkpoints of a training run to keep by DSE, without labels (arXiv 2510.17299).

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from common.errors import BadInput


def dse_over_training(
    inter: Sequence[float] | np.ndarray, intra: Sequence[float] | np.ndarray, dim: Sequence[float] | np.ndarray
) -> Float[np.ndarray, " n"]:
    """DSE of checkpoints that are compared with each other: M_inter − M_intra + λ · M_dim.

    λ makes the standard deviation of λ · M_dim over the checkpoints that of M_inter − M_intra, so that neither drowns
    the other; it is 1 where M_dim does not vary. Values of two calls do not compare.

    Raises:
        BadInput: unequal lengths, or values that are not finite.
    """
    terms = [np.asarray(values, np.float64) for values in (inter, intra, dim)]
    if len({values.shape for values in terms}) != 1 or terms[0].ndim != 1 or not np.isfinite(terms).all():
        raise BadInput(
            f"got M_inter, M_intra, M_dim of shapes {', '.join(str(x.shape) for x in terms)}: want one finite value of "
            "each per checkpoint; do leave out checkpoints that lack one"
        )
    apart = terms[0] - terms[1]
    if not terms[2].size or np.ptp(terms[2]) == 0:
        return apart + terms[2]
    return apart + terms[2] * (apart.std() / terms[2].std())


def candidates(dse_by_step: Mapping[int, float], *, window: int = 2, count: int = 3) -> tuple[int, ...]:
    """Steps of the `count` highest local maxima of DSE over training, the highest first.

    A local maximum is the highest within `window` checkpoints to either side; of equal ones the earliest counts.
    """
    steps = sorted(dse_by_step)
    values = [dse_by_step[step] for step in steps]
    peaks = [
        (-value, step)
        for place, (step, value) in enumerate(zip(steps, values, strict=True))
        if all(value > other for other in values[max(place - window, 0) : place])
        and all(value >= other for other in values[place + 1 : place + 1 + window])
    ]
    return tuple(step for _, step in sorted(peaks)[:count])
