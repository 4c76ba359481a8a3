"""Intervals over images by the bootstrap, and paired differences. numpy only.

Every metric is a function of per-image outcomes and of how often each image counts: `counts` of ones gives the
point estimate, rows of multinomial counts give the resamples (percentile bootstrap, Efron & Tibshirani 1993, §13.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import BadInput
from evals.results.metrics import METRICS, metric_of

Floats = NDArray[np.float64]
Measure = Callable[[Mapping[str, np.ndarray], Floats], Floats]  # outcomes, counts [R, n] -> values [R]

RESAMPLES = 2000
TAILS = (2.5, 97.5)  # percentiles: intervals are of 95 %
CELLS_PER_CHUNK = 1 << 23  # of the count matrix: 64 MiB


class Interval(NamedTuple):
    value: float
    low: float
    high: float


def mean(outcomes: Mapping[str, np.ndarray], counts: Floats, *, of: str) -> Floats:
    """Mean of a per-image number."""
    return counts @ outcomes[of].astype(np.float64) / counts.sum(1)


def by_class(outcomes: Mapping[str, np.ndarray], counts: Floats, *, of: str) -> Floats:
    """Mean over classes of an area ratio of the whole set, as mmsegmentation's nanmean: a class whose ratio has an
    empty denominator is left out.

    Args:
        of: "iou" |I| / |P ∪ T|, "precision" |I| / |P|, "recall" |I| / |T|, "dice" 2 |I| / (|P| + |T|), or "fscore",
            the harmonic mean of precision and recall, of classes that were hit (0/0 otherwise); I, P, T: right,
            predicted, true pixels.
    """
    right, guess, truth = (counts @ outcomes[name].astype(np.float64) for name in ("intersect", "predicted", "truth"))
    whole = {"iou": guess + truth - right, "precision": guess, "recall": truth, "dice": (guess + truth) / 2}
    known = right > 0 if of == "fscore" else whole[of] > 0
    share = np.divide(right, whole["dice" if of == "fscore" else of], out=np.zeros_like(right), where=known)
    classes = known.sum(1)
    return np.divide(share.sum(1), classes, out=np.full(len(counts), np.nan), where=classes > 0)


def pixel_accuracy(outcomes: Mapping[str, np.ndarray], counts: Floats) -> Floats:
    """Share of all labelled pixels that are right: it weighs pixels, not images or classes."""
    right, truth = (counts @ outcomes[name].sum(1, dtype=np.float64) for name in ("intersect", "truth"))
    return np.divide(right, truth, out=np.full_like(right, np.nan), where=truth > 0)


_BY_CLASS = {"miou": "iou", "mean_accuracy": "recall"} | {x: x for x in ("fscore", "precision", "recall", "dice")}
_OWN = {"top1": "correct", "top5": "in_top5"}  # every other metric is the mean of the outcome of its own name

MEASURES: dict[str, Measure] = {
    **{name: partial(mean, of=_OWN.get(name, name)) for name in METRICS},
    **{name: partial(by_class, of=of) for name, of in _BY_CLASS.items()},
    "pixel_accuracy": pixel_accuracy,
}


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
    return _bootstrap({metric: partial(_measure(metric), outcomes) for metric in metrics}, _images(outcomes),
                      resamples=resamples, seed=seed)  # fmt: skip


def value(metric: str, outcomes: Mapping[str, np.ndarray]) -> float:
    """The metric on these images alone, without an interval.

    Raises:
        BadInput: an unknown metric, or no images.
    """
    return float(_measure(metric)(outcomes, np.ones((1, _images(outcomes))))[0])


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
    measure = _measure(metric)
    one, other = _align(first, second)

    def difference(counts: Floats) -> Floats:
        return measure(other, counts) - measure(one, counts)

    return _bootstrap({metric: difference}, _images(one), resamples=resamples, seed=seed)[metric]


def _bootstrap(
    functions: Mapping[str, Callable[[Floats], Floats]], images: int, *, resamples: int, seed: int
) -> dict[str, Interval]:
    draws: dict[str, list[Floats]] = {name: [] for name in functions}
    for counts in resample(images, resamples, seed=seed):
        for name, function in functions.items():
            draws[name].append(function(counts))
    once = np.ones((1, images))
    return {
        name: _summarise(float(function(once)[0]), np.concatenate(draws[name])) for name, function in functions.items()
    }


def resample(images: int, resamples: int, *, seed: int) -> Iterator[Floats]:
    """How often each image was drawn, [r, images] in chunks that add up to `resamples` rows."""
    generator = np.random.default_rng(seed)
    rows = max(1, CELLS_PER_CHUNK // images)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = generator.integers(0, images, (size, images)) + images * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * images).reshape(size, images).astype(np.float64)


def _measure(metric: str) -> Measure:
    """The measure by its metric's name; a tag, as in `top1@10`, chooses the outcomes that bear it."""
    metric_of(metric)
    base, _, tag = metric.partition("@")
    measure = MEASURES[base]
    return partial(_tagged, measure, tag=tag) if tag else measure


def _tagged(measure: Measure, outcomes: Mapping[str, np.ndarray], counts: Floats, *, tag: str) -> Floats:
    ending = f"@{tag}"
    return measure({name.removesuffix(ending): x for name, x in outcomes.items() if name.endswith(ending)}, counts)


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
    return _rows(first, mine), _rows(second, theirs)


def _rows(outcomes: Mapping[str, np.ndarray], which: np.ndarray) -> dict[str, np.ndarray]:
    images = len(outcomes["keys"])
    return {name: x[which] for name, x in outcomes.items() if x.ndim and len(x) == images and name != "metrics"}


def _summarise(value: float, draws: Floats) -> Interval:
    draws = draws[np.isfinite(draws)]
    if not len(draws):
        return Interval(value, float("nan"), float("nan"))
    low, high = np.percentile(draws, TAILS)
    return Interval(value, float(low), float(high))
