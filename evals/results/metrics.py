"""Every metric: how it is written and read."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from common.errors import BadInput


class Metric(NamedTuple):
    """How a metric is written and read.

    `kind` says which side of the dense-vs-global trade-off it measures, or that it is a label-free sign of health;
    a `share` lies in 0..1 and is read as per cent.
    """

    label: str
    higher_is_better: bool
    kind: Literal["global", "dense", "health"]
    unit: str = ""
    share: bool = False


METRICS: dict[str, Metric] = {
    "top1": Metric("top-1 accuracy", True, "global", share=True),
    "top5": Metric("top-5 accuracy", True, "global", share=True),
    "miou": Metric("mIoU", True, "dense", share=True),
    "pixel_accuracy": Metric("pixel accuracy", True, "dense", share=True),
    "mean_accuracy": Metric("mean class accuracy", True, "dense", share=True),
    "fscore": Metric("F-score", True, "dense", share=True),
    "precision": Metric("precision", True, "dense", share=True),
    "recall": Metric("recall", True, "dense", share=True),
    "dice": Metric("Dice", True, "dense", share=True),
    "rmse": Metric("depth RMSE", False, "dense", unit="m"),
    "delta1": Metric("depth δ1", True, "dense", share=True),
    "delta2": Metric("depth δ2", True, "dense", share=True),
    "delta3": Metric("depth δ3", True, "dense", share=True),
    "abs_rel": Metric("depth AbsRel", False, "dense"),
    "sq_rel": Metric("depth SqRel", False, "dense", unit="m"),
    "mae": Metric("depth MAE", False, "dense", unit="m"),
    "log10": Metric("depth log10", False, "dense"),
    "rmse_log": Metric("depth RMSE of logs", False, "dense"),
    "silog": Metric("depth SILog", False, "dense"),
    "dse": Metric("DSE", True, "health"),
    "dse_inter": Metric("DSE, between clusters", True, "health"),
    "dse_intra": Metric("DSE, within clusters", False, "health"),
    "dse_dim": Metric("DSE, dimensions", True, "health"),
    "cls_patch_cosine": Metric("CLS-patch cosine", False, "health"),
    "locality": Metric("locality", True, "health"),
    "effective_rank": Metric("effective rank", True, "health"),
    "rankme": Metric("RankMe", True, "health"),
    "norm_outliers": Metric("patch-norm outliers", False, "health", share=True),
    "gram_drift": Metric("Gram drift", False, "health"),
}


RELATIVE = frozenset({"gram_drift"})  # what a reference backbone enters, beside others that it leaves as they are


def write_number(metric: Metric, number: float, *, like: float, sign: str = "") -> str:
    """A number for reading, shares as per cent, with the decimal places that a value of the size of `like` needs."""
    if metric.share:
        return f"{100 * number:{sign}.2f}"
    size = abs(like) if math.isfinite(like) and like else 1.0
    if not 1e-3 <= size < 1e6:
        return f"{number:{sign}.2e}"
    return f"{number:{sign}.{max(3 - math.floor(math.log10(size)), 1)}f}"


def metric_of(name: str) -> Metric:
    """How a metric is written and read; one with a tag, `top1@10`, as the metric that it is a case of.

    Raises:
        BadInput: an unknown metric.
    """
    base, _, tag = name.partition("@")
    if base not in METRICS:
        raise BadInput(f"got metric {name!r}: want one of {', '.join(METRICS)}; do correct the name")
    metric = METRICS[base]
    return metric._replace(label=f"{metric.label} @{tag}") if tag else metric
