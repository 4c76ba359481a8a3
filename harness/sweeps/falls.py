"""How far a measure fell in a trial: from the best of its evaluations to the last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from common.errors import BadInput
from evals.results.bootstrap import Interval
from evals.results.falls import fall, fall_over_images
from evals.results.metrics import metric_of
from evals.results.outcomes import load_outcomes, outcomes_of
from evals.results.table import Row

NOTHING = Interval(math.nan, math.nan, math.nan)


def fallen(seen: Sequence[tuple[Row, Path]]) -> Interval:
    """The fall over a measure's rows in the order of their steps, with its interval over images.

    It has no interval where the last value is the best, since nothing was lost that could be more or less, and where
    one of the two evaluations has no outcomes any more.

    Args:
        seen: each row with the folder of its evaluation's outcomes.
    """
    if not seen:
        return NOTHING
    kind = metric_of(seen[0][0].metric)
    values = [row.value for row, _ in seen]
    value = fall(values, higher_is_better=kind.higher_is_better, ratio=kind.ratio)
    if not value > 0:
        return NOTHING._replace(value=value)
    best = (max if kind.higher_is_better else min)(range(len(values)), key=values.__getitem__)
    with suppress(BadInput):
        before, after = (load_outcomes(folder / outcomes_of(row)) for row, folder in (seen[best], seen[-1]))
        return fall_over_images(seen[0][0].metric, before, after)._replace(value=value)
    return NOTHING._replace(value=value)
