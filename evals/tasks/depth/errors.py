"""How far a depth map is from the truth: the ten errors of monocular depth estimation, for one image at a time.

Source: Eigen, Puhrsch, Fergus, NIPS 2014 (arXiv 1406.2283 §3.2, §4.2) for the errors and the scale-invariant one; the
names and their common set as in BTS (Lee et al., arXiv 1907.10326 §4.2). Values over a set are means over its images.
"""

from __future__ import annotations

import numpy as np

from common.errors import BadInput

NAMES = ("rmse", "delta1", "delta2", "delta3", "abs_rel", "log10", "rmse_log", "silog", "sq_rel", "mae")
SUMS = ("squared_error", "pixels")


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
