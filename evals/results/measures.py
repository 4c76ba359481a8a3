"""How the value of a metric follows from what each image contributed: means, area ratios, shares of pixels.

A measure takes per-image outcomes and how often each image counts: counts of ones give the value itself, rows of drawn
counts the values of resamples (`evals.results.bootstrap`). numpy only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Measure = Callable[[Mapping[str, np.ndarray], Floats], Floats]  # outcomes, counts [R, n] -> values [R]


def mean(of: str) -> Measure:
    """Mean over images of the outcome of this name."""

    def measure(outcomes: Mapping[str, np.ndarray], counts: Floats) -> Floats:
        return counts @ outcomes[of].astype(np.float64) / counts.sum(1)

    return measure


def by_class(of: str) -> Measure:
    """Mean over classes of an area ratio of the whole set, as mmsegmentation's nanmean: a class whose ratio has an
    empty denominator is left out.

    Args:
        of: "iou" |I| / |P ∪ T|, "precision" |I| / |P|, "recall" |I| / |T|, "dice" 2 |I| / (|P| + |T|), or "fscore",
            the harmonic mean of precision and recall, of classes that were hit (0/0 otherwise); I, P, T: right,
            predicted, true pixels, the outcomes `intersect`, `predicted` and `truth` [n C].
    """

    def measure(outcomes: Mapping[str, np.ndarray], counts: Floats) -> Floats:
        areas = (counts @ outcomes[name].astype(np.float64) for name in ("intersect", "predicted", "truth"))
        right, guess, truth = areas
        whole = {"iou": guess + truth - right, "precision": guess, "recall": truth, "dice": (guess + truth) / 2}
        known = right > 0 if of == "fscore" else whole[of] > 0
        share = np.divide(right, whole["dice" if of == "fscore" else of], out=np.zeros_like(right), where=known)
        classes = known.sum(1)
        return np.divide(share.sum(1), classes, out=np.full(len(counts), np.nan), where=classes > 0)

    return measure


def pixel_accuracy(outcomes: Mapping[str, np.ndarray], counts: Floats) -> Floats:
    """Share of all labelled pixels that are right: it weighs pixels, not images or classes."""
    right, truth = (counts @ outcomes[name].sum(1, dtype=np.float64) for name in ("intersect", "truth"))
    return np.divide(right, truth, out=np.full_like(right, np.nan), where=truth > 0)


def tagged(measure: Measure, tag: str) -> Measure:
    """The same of the outcomes that bear a tag, as `correct@10` does."""
    ending = f"@{tag}"

    def of_tag(outcomes: Mapping[str, np.ndarray], counts: Floats) -> Floats:
        return measure({name.removesuffix(ending): x for name, x in outcomes.items() if name.endswith(ending)}, counts)

    return of_tag
