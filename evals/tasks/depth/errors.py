"""How far a depth map is from the truth: the ten errors of monocular depth, and the judging of a set by them.

Source: Eigen, Puhrsch, Fergus, NIPS 2014 (arXiv 1406.2283 §3.2, §4.2) for the errors and the scale-invariant one; the
names and their common set as in BTS (Lee et al., arXiv 1907.10326 §4.2). Values over a set are means over its images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from common.errors import BadInput
from common.progress import Bar
from evals.datasets.labelled_set import LabelledSet
from evals.protocols.protocol import Watch
from evals.results.table import Outcomes

NAMES = ("rmse", "delta1", "delta2", "delta3", "abs_rel", "log10", "rmse_log", "silog", "sq_rel", "mae")


def judge(
    dataset: LabelledSet,
    guess: Callable[[int, tuple[int, int]], np.ndarray],
    *,
    valid: Callable[[np.ndarray], np.ndarray],
    limits: tuple[float, float],
    title: str,
    watch: Watch | None = None,
) -> dict[str, np.ndarray]:
    """For each image that has valid depth: its key and its errors, one array [n] each.

    Beside them `known_pixels` and those of them, `outside_pixels`, that do not lie within the limits.

    Args:
        guess: metres [H W] of an image, given its number and the shape of its depth map.
        valid: from a depth map to the pixels of it that count.
        limits: metres, exclusive: what lies outside of them never counts.
        watch: also told the metres [H W] of each of these images, NaN where they do not count.

    Raises:
        BadInput: no image has valid depth.
    """
    found: dict[str, list] = {"keys": []}
    for index in Bar(range(len(dataset)), desc=title, unit="image"):
        truth = dataset.depth(index)
        counts = valid(truth)
        if not counts.any():
            continue
        metres = guess(index, (truth.shape[0], truth.shape[1]))
        if watch:
            watch(index, np.where(counts, metres, np.float32(np.nan)))
        found["keys"].append(dataset.key(index))
        for name, value in depth_errors(metres, truth, valid=counts).items():
            found.setdefault(name, []).append(value)
        known = truth[truth > 0]
        found.setdefault("known_pixels", []).append(known.size)
        found.setdefault("outside_pixels", []).append(known.size - within(known, *limits).sum())
    if not found["keys"]:
        raise no_depth(dataset)
    return {name: np.array(values) for name, values in found.items()}


def notes(protocol: Any, dataset: LabelledSet, outcomes: Outcomes) -> Iterator[str]:
    """How much of the known depth does not count, and how many images have none that does."""
    outside = outcomes["outside_pixels"].sum() / outcomes["known_pixels"].sum()
    if outside:
        text = f"{outside:.2%} of the known depth is outside {protocol.min_depth:g} to {protocol.max_depth:g} m"
        yield f"{text} and does not count"
    if without := len(dataset) - len(outcomes["keys"]):
        yield f"images without depth that counts are left out: {without}"


def refuse_without_depth(*datasets: LabelledSet) -> None:
    """Raises BadInput for a set that has no depth maps."""
    for dataset in datasets:
        if not dataset.has_depth:
            raise BadInput(f"got {dataset.name} without depth: want a set with it; do name another set")


def no_depth(dataset: LabelledSet) -> BadInput:
    """The error for a set whose depth maps hold no valid depth."""
    want = "want metres between the protocol's min_depth and max_depth"
    return BadInput(f"got no valid depth in {dataset.name} ({dataset.split}): {want}; do check its maps")


def within(truth: np.ndarray, low: float, high: float) -> np.ndarray:
    """Which pixels [H W] of a truth in metres count: low < depth < high, both exclusive; unknown ones (0) do not."""
    return (truth > low) & (truth < high)


def depth_errors(prediction: np.ndarray, truth: np.ndarray, *, valid: np.ndarray) -> dict[str, float]:
    """All errors of a prediction p against a truth t, both [H W] in metres, over the pixels where `valid` holds.

    In float64; means run over the valid pixels of this image, and d = ln p − ln t:

        rmse      sqrt(mean((p − t)²))                   metres
        delta1    share of pixels with max(p/t, t/p) < 1.25; delta2 below 1.25², delta3 below 1.25³
        abs_rel   mean(|p − t| / t)
        log10     mean(|log10 p − log10 t|)
        rmse_log  sqrt(mean(d²))
        silog     100 · sqrt(mean(d²) − mean(d)²)        the deviation of d: blind to a common scale
        sq_rel    mean((p − t)² / t)                     metres
        mae       mean(|p − t|)                          metres

    and the sums `squared_error`, Σ (p − t)² in m², and `pixels`, the number of valid ones. mmsegmentation's DepthMetric
    takes half of mean(d)² off in `silog` and leaves out the factor of 100; the other errors are the same.

    Raises:
        BadInput: unlike shapes, no valid pixel, or there a prediction or truth that is not positive and finite.
    """
    if not prediction.shape == truth.shape == valid.shape:
        shapes = f"{prediction.shape}, {truth.shape} and {valid.shape}"
        raise BadInput(f"got prediction, truth and valid of shapes {shapes}: want one shape; do resize the prediction")
    p, t = (np.asarray(x)[valid].astype(np.float64) for x in (prediction, truth))
    if not len(p):
        raise BadInput("got no valid depth in an image: want one pixel at least; do leave the image out")
    if not all(np.isfinite(x).all() and (x > 0).all() for x in (p, t)):
        raise BadInput("got depth that is not positive and finite: want metres; do clamp predictions to a valid range")
    gap, d, ratio = p - t, np.log(p) - np.log(t), np.maximum(p / t, t / p)
    squares = gap**2
    return {
        "rmse": float(np.sqrt(squares.mean())),
        **{f"delta{k}": float((ratio < 1.25**k).mean()) for k in (1, 2, 3)},
        "abs_rel": float((np.abs(gap) / t).mean()),
        "log10": float(np.abs(np.log10(p) - np.log10(t)).mean()),
        "rmse_log": float(np.sqrt((d**2).mean())),
        "silog": float(100 * d.std()),  # the same as its formula, without the cancellation
        "sq_rel": float((squares / t).mean()),
        "mae": float(np.abs(gap).mean()),
        "squared_error": float(squares.sum()),
        "pixels": float(len(p)),
    }
