"""How far a measure has fallen from its own peak: the one definition, and its interval over images.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from evals.results.bootstrap import RESAMPLES, Interval, joint_draws, summarise
from evals.results.measures import Floats
from evals.results.metrics import metric_of


def fall(values: Sequence[float], *, higher_is_better: bool, ratio: bool = True) -> float:
    """How far the last value lies behind the best of all, itself among them: 0 where it is the best, else above 0.

    For an error, where lower is better, that is how far it has risen from its lowest value. As the best of several the
    peak is high by luck too: of values that merely scatter, the fall is above 0.

    Args:
        values: of one network as its training goes on, in order.
        ratio: as a share of the best value, as 0.1 for a mIoU of 0.36 after one of 0.40; False for metrics without a
            zero that such a share could be of (`Metric.ratio`): the plain difference, in the metric's unit.

    Returns:
        NaN where nothing tells: no value, one that is not finite, since it may have been the peak, or for a share a
        best value that is not above 0.
    """
    if not len(values) or not np.isfinite(values).all():
        return float("nan")
    best = max(values) if higher_is_better else min(values)
    return float(_behind(np.asarray(best), np.asarray(values[-1]), higher_is_better=higher_is_better, ratio=ratio))


def fall_over_images(
    metric: str,
    best: Mapping[str, np.ndarray],
    last: Mapping[str, np.ndarray],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The fall from one checkpoint to another by their per-image outcomes, each resample drawing images for both.

    The interval takes it as given which checkpoint was the best, and reaches below 0 where the fall may be none.

    Raises:
        BadInput: an unknown metric, or no image in common.
    """
    kind, found = metric_of(metric), joint_draws(metric, [best, last], resamples=resamples, seed=seed)
    side = {"higher_is_better": kind.higher_is_better, "ratio": kind.ratio}
    return summarise(float(_behind(*found.values, **side)), _behind(*found.draws.T, **side))


def _behind(best: Floats, last: Floats, *, higher_is_better: bool, ratio: bool) -> Floats:
    gap = best - last if higher_is_better else last - best
    if not ratio:
        return gap
    share = np.divide(gap, best, out=np.full(np.shape(gap), np.nan), where=best > 0)
    return np.where(gap == 0, 0.0, share)
