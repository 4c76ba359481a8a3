"""Intervals over images by the bootstrap, and paired differences. numpy only.

Every metric is a function of per-image outcomes and of how often each image counts: `counts` of ones gives the
point estimate, rows of multinomial counts give the resamples (percentile bootstrap, Efron & Tibshirani 1993, §13.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evals.errors import BadInput

Floats = NDArray[np.float64]
Measure = Callable[[Mapping[str, np.ndarray], Floats], Floats]  # outcomes, counts [R, n] -> values [R]

RESAMPLES = 2000
CELLS_PER_CHUNK = 1 << 23  # of the count matrix: 64 MiB


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def mean(outcomes: Mapping[str, np.ndarray], counts: Floats, *, of: str) -> Floats:
    """Mean of a per-image number."""
    return counts @ outcomes[of].astype(np.float64) / counts.sum(1)


def ratio(outcomes: Mapping[str, np.ndarray], counts: Floats, *, part: str, whole: str) -> Floats:
    """Sum over images of `part` by the sum of `whole`: pixel accuracy weighs pixels, not images."""
    top, bottom = (counts @ outcomes[name].astype(np.float64) for name in (part, whole))
    return np.divide(top, bottom, out=np.full_like(top, np.nan), where=bottom > 0)


def mean_iou(outcomes: Mapping[str, np.ndarray], counts: Floats) -> Floats:
    """Data-set mIoU from per-image areas; a class with no union is left out, as mmsegmentation's nanmean does."""
    intersect, union = (counts @ outcomes[name].astype(np.float64) for name in ("intersect", "union"))
    present = union > 0
    iou = np.divide(intersect, union, out=np.zeros_like(intersect), where=present)
    classes = present.sum(1)
    return np.divide(iou.sum(1), classes, out=np.full(len(counts), np.nan), where=classes > 0)


MEASURES: dict[str, Measure] = {
    "top1": partial(mean, of="correct"),
    "miou": mean_iou,
    "pixel_accuracy": partial(ratio, part="hits", whole="pixels"),
    "rmse": partial(mean, of="rmse"),
    "delta1": partial(mean, of="delta1"),
}


def interval(
    metric: str,
    outcomes: Mapping[str, np.ndarray],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """The metric on these images and its percentile interval over resampled images.

    Raises:
        BadInput: an unknown metric, or no images.
    """
    measure = _measure(metric)
    images = _images(outcomes)
    draws = np.concatenate([measure(outcomes, counts) for counts in resample(images, resamples, seed=seed)])
    return _summarise(float(measure(outcomes, np.ones((1, images)))[0]), draws, level)


def paired_difference(
    metric: str,
    first: Mapping[str, np.ndarray],
    second: Mapping[str, np.ndarray],
    *,
    resamples: int = RESAMPLES,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """`second` minus `first` on the images both have, each resample drawing the same images for both.

    Raises:
        BadInput: an unknown metric, or no image in common.
    """
    measure = _measure(metric)
    one, other = _align(first, second)
    images = _images(one)
    draws = np.concatenate(
        [measure(other, counts) - measure(one, counts) for counts in resample(images, resamples, seed=seed)]
    )
    once = np.ones((1, images))
    return _summarise(float((measure(other, once) - measure(one, once))[0]), draws, level)


def resample(images: int, resamples: int, *, seed: int) -> Iterator[Floats]:
    """How often each image was drawn, [r, images] in chunks that add up to `resamples` rows."""
    generator = np.random.default_rng(seed)
    rows = max(1, CELLS_PER_CHUNK // images)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = generator.integers(0, images, (size, images)) + images * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images).astype(np.float64)


def _measure(metric: str) -> Measure:
    if metric not in MEASURES:
        raise BadInput(f"got metric {metric!r}: want one of {', '.join(MEASURES)}; do correct the name")
    return MEASURES[metric]


def _images(outcomes: Mapping[str, np.ndarray]) -> int:
    if not len(outcomes["keys"]):
        raise BadInput("got outcomes without images: want at least one image; do check the data set and its split")
    return len(outcomes["keys"])


def _align(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    shared, mine, theirs = np.intersect1d(first["keys"], second["keys"], return_indices=True)
    if not len(shared):
        raise BadInput(
            "got two sets of outcomes with no image in common: want the same data set; do evaluate both on it"
        )
    return {k: v[mine] for k, v in first.items()}, {k: v[theirs] for k, v in second.items()}


def _summarise(value: float, draws: Floats, level: float) -> Interval:
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Interval(value, float("nan"), float("nan"))
    tail = 50 * (1 - level)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(value, float(low), float(high))
