from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from common.errors import BadInput
from evals import mmseg_bridge
from evals.tasks.depth.errors import NAMES, depth_errors, within


def pair(seed: int = 0, shape: tuple[int, int] = (30, 40)) -> tuple[np.ndarray, np.ndarray]:
    """A prediction and a truth in metres, both float32; some of the truth is unknown (0) or out of range."""
    draw = np.random.default_rng(seed)
    truth = draw.uniform(-1, 12, shape).astype(np.float32)
    truth[draw.random(shape) < 0.2] = 0
    return draw.uniform(0.1, 10, shape).astype(np.float32), truth


def looped(prediction: np.ndarray, truth: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """All errors by a plain loop over pixels and Python's own floats."""
    keep = [
        (float(p), float(t))
        for p, t, v in zip(prediction.ravel().tolist(), truth.ravel().tolist(), valid.ravel().tolist(), strict=True)
        if v
    ]
    n = len(keep)
    logs = [math.log(p) - math.log(t) for p, t in keep]
    mean_log, mean_log_square = sum(logs) / n, sum(d * d for d in logs) / n
    squares = sum((p - t) ** 2 for p, t in keep)
    found = {f"delta{k}": sum(max(p / t, t / p) < 1.25**k for p, t in keep) / n for k in (1, 2, 3)}
    return found | {
        "rmse": math.sqrt(squares / n),
        "abs_rel": sum(abs(p - t) / t for p, t in keep) / n,
        "log10": sum(abs(math.log10(p / t)) for p, t in keep) / n,
        "rmse_log": math.sqrt(mean_log_square),
        "silog": 100 * math.sqrt(mean_log_square - mean_log**2),
        "sq_rel": sum((p - t) ** 2 / t for p, t in keep) / n,
        "mae": sum(abs(p - t) for p, t in keep) / n,
        "squared_error": squares,
        "pixels": n,
    }


def test_all_errors_equal_a_plain_loop_over_pixels():
    prediction, truth = pair()
    valid = within(truth, 0.001, 10)
    found = depth_errors(prediction, truth, valid=valid)
    assert set(found) == {*NAMES, "squared_error", "pixels"}
    assert found == pytest.approx(looped(prediction, truth, valid), rel=1e-9)


def test_the_errors_that_mmsegmentation_has_too_are_the_same():
    prediction, truth = pair(1)
    valid = within(truth, 0.001, 10)
    found = depth_errors(prediction, truth, valid=valid)
    p, t = (torch.from_numpy(x[valid]) for x in (prediction, truth))
    theirs = mmseg_bridge.metric("DepthMetric")._calc_all_metrics(t, p)
    names = {"d1": "delta1", "d2": "delta2", "d3": "delta3"} | {
        name: name for name in ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10")
    }
    assert {ours: theirs[name] for name, ours in names.items()} == pytest.approx(
        {ours: found[ours] for ours in names.values()}, rel=1e-5
    )
    gap = np.log(prediction[valid].astype(np.float64) / truth[valid])
    assert theirs["silog"] ** 2 == pytest.approx((found["silog"] / 100) ** 2 + 0.5 * gap.mean() ** 2, rel=1e-5)


def test_the_range_of_valid_depth_leaves_its_ends_out():
    truth = np.array([[0.0, 0.001, 0.002, 9.999, 10.0, 11.0]])
    assert within(truth, 0.001, 10).tolist() == [[False, False, True, True, False, False]]


def test_a_perfect_prediction_has_no_error_and_a_common_scale_leaves_silog_alone():
    _, truth = pair(2)
    valid = within(truth, 0.001, 10)
    perfect = depth_errors(np.where(valid, truth, 1), truth, valid=valid)
    assert {name for name in NAMES if perfect[name] == 0} == {*NAMES} - {"delta1", "delta2", "delta3"}
    assert perfect["delta1"] == perfect["delta3"] == 1
    assert perfect["pixels"] == valid.sum()
    double = depth_errors(np.where(valid, 2 * truth, 1), truth, valid=valid)
    assert double["silog"] == pytest.approx(0, abs=1e-4)
    assert double["rmse_log"] == pytest.approx(math.log(2))
    assert double["delta3"] == 0


def test_pixels_that_are_not_valid_count_nowhere():
    prediction, truth = pair(3)
    valid = within(truth, 0.001, 10)
    spoilt = np.where(valid, prediction, np.nan)
    assert depth_errors(spoilt, truth, valid=valid) == depth_errors(prediction, truth, valid=valid)


def test_images_without_valid_depth_and_predictions_without_a_logarithm_are_refused():
    ones = np.ones((2, 3))
    with pytest.raises(BadInput, match="no valid depth"):
        depth_errors(ones, ones, valid=ones == 0)
    for wrong in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(BadInput, match="not positive and finite"):
            depth_errors(ones * wrong, ones, valid=ones > 0)
    with pytest.raises(BadInput, match=r"\(2, 3\), \(3, 2\) and \(2, 3\)"):
        depth_errors(ones, ones.T, valid=ones > 0)
