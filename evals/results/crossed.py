"""The difference of two arms over training seeds and evaluation images at once; docs/statistics.md explains it.

Every seed is judged on the same images, so seeds and images are crossed: what an image does to all seeds alike does not
average out over seeds, and what a seed does to all images alike does not average out over images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from evals.results.bootstrap import summarise
from evals.results.measures import Floats

ALPHA = 0.05  # intervals are of 95 %
TINY = np.finfo(float).tiny  # in place of a variance of 0


@dataclass(frozen=True)
class Crossed:
    """A mean difference over `seeds` seeds on `images` images, bounded by `low` and `high` (95 %).

    `seed_variance` is that of one seed's difference, what images do to single seeds included, NaN for one seed;
    `image_variance` that of the mean over endlessly many seeds, by the choice of images. One seed has the percentile
    interval over images alone.
    """

    value: float
    low: float
    high: float
    seeds: int
    images: int
    seed_variance: float
    image_variance: float

    def variance(self, seeds: Any) -> Any:
        """Of the mean difference over so many seeds."""
        return self.seed_variance / seeds + self.image_variance

    def freedom(self, seeds: Any) -> Any:
        """Degrees of freedom of that variance: of seeds and of images, the harmonic mean by their share in it."""
        share = self.seed_variance / seeds / np.maximum(self.variance(seeds), TINY)
        return 1 / (share / (seeds - 1) + (1 - share) / max(self.images - 1, 1))

    def above(self, null: float) -> float:
        """One-sided p: the chance of a difference as high as this one, or higher, if the true one were `null`.

        NaN for one seed, which tells nothing of others, and where nothing varies, which tells nothing of chance.
        """
        error = math.sqrt(self.variance(self.seeds))
        if error == 0:
            return math.nan
        return float(stdtr(self.freedom(self.seeds), (null - self.value) / error))


def crossed(values: Floats, draws: Floats, *, images: int) -> Crossed:
    """From each seed's difference, `values` [S], and the same on resampled images, `draws` [R S], drawn for all alike.

    The variance of the mean is s²/S + c: s² between the seeds' differences, c the mean covariance of two seeds'
    differences over resamples (at least 0). What an image does to one seed alone is in s² already, and not in c.
    """
    draws, count = draws[np.isfinite(draws).all(axis=1)], len(values)
    value = float(values.mean())
    if count == 1:
        over_images = float(draws.var(ddof=1)) if len(draws) > 1 else math.nan
        _, low, high = summarise(value, draws[:, 0])
        return Crossed(value, low, high, 1, images, math.nan, over_images)
    covariance = np.cov(draws, rowvar=False) if len(draws) > 1 else np.full((count, count), math.nan)
    shared = float((covariance.sum() - np.trace(covariance)) / (count * (count - 1)))
    found = Crossed(value, value, value, count, images, float(values.var(ddof=1)), max(shared, 0.0))
    half = float(stdtrit(found.freedom(count), 1 - ALPHA / 2)) * math.sqrt(found.variance(count))
    return replace(found, low=value - half, high=value + half)
