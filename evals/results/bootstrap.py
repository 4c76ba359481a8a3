"""Intervals over images by the bootstrap, and paired differences.

A metric's measure is given how often each image counts: ones for the value itself, rows of multinomial counts for
the resamples (percentile bootstrap, Efron & Tibshirani 1993, §13.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np

from common.errors import BadInput
from evals.results.measures import Floats
from evals.results.metrics import metric_of

RESAMPLES = 2000
TAILS = (2.5, 97.5)  # percentiles: intervals are of 95 %
CELLS_PER_CHUNK = 1 << 23  # of the count matrix: 64 MiB


class Interval(NamedTuple):
    value: float
    low: float
    high: float


class Draws(NamedTuple):
    """A metric of m sides on the same images: the `values` [m], and those of R resamples, `draws` [R m]."""

    values: Floats
    draws: Floats
    images: int


def intervals(
    metrics: Sequence[str],
    outcomes: Mapping[str, np.ndarray],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Each metric on these images with its percentile interval, all over the same resampled images.

    Raises:
        BadInput: an unknown metric, or no images.
    """
    return _bootstrap({metric: partial(metric_of(metric).measure, outcomes) for metric in metrics}, _images(outcomes),
                      resamples=resamples, seed=seed)  # fmt: skip


def value(metric: str, outcomes: Mapping[str, np.ndarray]) -> float:
    """The metric on these images alone, without an interval.

    Raises:
        BadInput: an unknown metric, or no images.
    """
    return float(metric_of(metric).measure(outcomes, np.ones((1, _images(outcomes))))[0])


def interval(metric: str, outcomes: Mapping[str, np.ndarray], **options: Any) -> Interval:
    """`intervals` of one metric."""
    return intervals([metric], outcomes, **options)[metric]


def paired_difference(
    metric: str,
    first: Mapping[str, np.ndarray],
    second: Mapping[str, np.ndarray],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """`second` minus `first` on the images both have, each resample drawing the same images for both.

    Raises:
        BadInput: an unknown metric, or no image in common.
    """
    found = joint_draws(metric, [first, second], resamples=resamples, seed=seed)
    return summarise(found.values[1] - found.values[0], found.draws[:, 1] - found.draws[:, 0])


def joint_draws(
    metric: str, sides: Sequence[Mapping[str, np.ndarray]], *, resamples: int = RESAMPLES, seed: int = 0
) -> Draws:
    """The metric of every side on the images that all of them have, each resample drawing the same images for all.

    Raises:
        BadInput: an unknown metric, or no image in common.
    """
    measure, aligned = metric_of(metric).measure, _align(sides)
    images = _images(aligned[0])
    once = np.ones((1, images))
    values = np.array([float(measure(side, once)[0]) for side in aligned])
    chunks = [
        np.stack([measure(side, counts) for side in aligned], axis=1)
        for counts in resample(images, resamples, seed=seed)
    ]
    return Draws(values, np.concatenate(chunks), images)


def _bootstrap(
    functions: Mapping[str, Callable[[Floats], Floats]], images: int, *, resamples: int, seed: int
) -> dict[str, Interval]:
    draws: dict[str, list[Floats]] = {name: [] for name in functions}
    for counts in resample(images, resamples, seed=seed):
        for name, function in functions.items():
            draws[name].append(function(counts))
    once = np.ones((1, images))
    return {
        name: summarise(float(function(once)[0]), np.concatenate(draws[name])) for name, function in functions.items()
    }


def resample(images: int, resamples: int, *, seed: int) -> Iterator[Floats]:
    """How often each image was drawn, [r, images] in chunks that add up to `resamples` rows."""
    generator = np.random.default_rng(seed)
    rows = max(1, CELLS_PER_CHUNK // images)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = generator.integers(0, images, (size, images)) + images * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images).astype(np.float64)


def _images(outcomes: Mapping[str, np.ndarray]) -> int:
    if not len(outcomes["keys"]):
        raise BadInput("got outcomes without images: want at least one image; do check the data set and its split")
    return len(outcomes["keys"])


def _align(sides: Sequence[Mapping[str, np.ndarray]]) -> list[dict[str, np.ndarray]]:
    """The rows of each side that are of images which all have, in one order."""
    shared = reduce(np.intersect1d, (side["keys"] for side in sides))
    if not len(shared):
        raise BadInput(
            "got sets of outcomes with no image in common: want the same data set; do evaluate all of them on it"
        )
    return [_rows(side, np.intersect1d(side["keys"], shared, return_indices=True)[1]) for side in sides]


def _rows(outcomes: Mapping[str, np.ndarray], which: np.ndarray) -> dict[str, np.ndarray]:
    images = len(outcomes["keys"])
    return {name: x[which] for name, x in outcomes.items() if x.ndim and len(x) == images and name != "metrics"}


def summarise(value: float, draws: Floats) -> Interval:
    """A value with the percentile interval of its resamples; NaN ends where none is finite."""
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(draws, TAILS)
    return Interval(value, float(low), float(high))
