"""The table of metrics: how each is written, which way is better, its unit, and how it follows from the outcomes."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from common.errors import BadInput
from evals.results.measures import Measure, by_class, mean, pixel_accuracy, tagged

HIGHER, LOWER = True, False


def side(*, higher: bool, better: bool = True) -> str:
    """Which side is better, or sought though it is not, for reading: "lower is better"."""
    return f"{'higher' if higher else 'lower'} is {'better' if better else 'sought'}"


def arrow(*, higher: bool) -> str:
    """Towards the side that is better."""
    return "↑" if higher else "↓"


class Metric(NamedTuple):
    """How a metric is written and read, and computed from what each image contributed.

    `kind` says which side of the dense-vs-global trade-off it measures, or that it is a label-free sign of health;
    a `share` lies in 0..1 and is read as per cent. Those that are `leading` stand first in a report. `guesses` at the
    class of an image count, where they do: their share of the classes is chance. A `relative` one tells the distance
    to a reference backbone: it is neither good nor bad, and leaves what stands beside it as it is.

    An arm that falls behind by less than `margin` is no worse, unless an experiment says otherwise: of a share in its
    own unit, of any other metric as a share of the baseline's value; 0 where none can be argued for. docs/statistics.md
    tells where they are from.

    On a `ratio` scale (Stevens 1946) a value can be said to be a tenth less than another. Differences and cosines have
    no zero for that, and where the best value is 0 as a rule, as of outliers, nothing can be a share of it.
    """

    label: str
    higher_is_better: bool
    kind: Literal["global", "dense", "health"]
    measure: Measure
    unit: str = ""
    share: bool = False
    leading: bool = False
    guesses: int = 0
    relative: bool = False
    margin: float = 0.0
    ratio: bool = True

    def margin_at(self, baseline: float) -> float:
        """The margin in the metric's own unit, beside a baseline of this value."""
        return self.margin if self.share else self.margin * abs(baseline)


HALF_A_POINT, POINT, ERROR = 0.005, 0.01, 0.03  # margins of top-1, of shares of pixels, of distances

METRICS: dict[str, Metric] = {
    "top1": Metric(
        "top-1 accuracy", HIGHER, "global", mean("correct"), share=True, leading=True, guesses=1, margin=HALF_A_POINT
    ),
    "top5": Metric("top-5 accuracy", HIGHER, "global", mean("in_top5"), share=True, guesses=5, margin=HALF_A_POINT),
    "miou": Metric("mIoU", HIGHER, "dense", by_class("iou"), share=True, leading=True, margin=POINT),
    "pixel_accuracy": Metric("pixel accuracy", HIGHER, "dense", pixel_accuracy, share=True, margin=POINT),
    "mean_accuracy": Metric("mean class accuracy", HIGHER, "dense", by_class("recall"), share=True, margin=POINT),
    "fscore": Metric("F-score", HIGHER, "dense", by_class("fscore"), share=True, margin=POINT),
    "precision": Metric("precision", HIGHER, "dense", by_class("precision"), share=True, margin=POINT),
    "recall": Metric("recall", HIGHER, "dense", by_class("recall"), share=True, margin=POINT),
    "dice": Metric("Dice", HIGHER, "dense", by_class("dice"), share=True, margin=POINT),
    "rmse": Metric("depth RMSE", LOWER, "dense", mean("rmse"), unit="m", leading=True, margin=ERROR),
    "delta1": Metric("depth δ1", HIGHER, "dense", mean("delta1"), share=True, margin=POINT),
    "delta2": Metric("depth δ2", HIGHER, "dense", mean("delta2"), share=True, margin=POINT),
    "delta3": Metric("depth δ3", HIGHER, "dense", mean("delta3"), share=True, margin=POINT),
    "abs_rel": Metric("depth AbsRel", LOWER, "dense", mean("abs_rel"), margin=ERROR),
    "sq_rel": Metric("depth SqRel", LOWER, "dense", mean("sq_rel"), unit="m", margin=ERROR),
    "mae": Metric("depth MAE", LOWER, "dense", mean("mae"), unit="m", margin=ERROR),
    "log10": Metric("depth log10", LOWER, "dense", mean("log10"), margin=ERROR),
    "rmse_log": Metric("depth RMSE of logs", LOWER, "dense", mean("rmse_log"), margin=ERROR),
    "silog": Metric("depth SILog", LOWER, "dense", mean("silog"), margin=ERROR),
    "angle": Metric("angular error", LOWER, "dense", mean("angle"), unit="°", leading=True, margin=ERROR),
    "within_11": Metric("normals within 11.25°", HIGHER, "dense", mean("within_11"), share=True, margin=POINT),
    "within_22": Metric("normals within 22.5°", HIGHER, "dense", mean("within_22"), share=True, margin=POINT),
    "within_30": Metric("normals within 30°", HIGHER, "dense", mean("within_30"), share=True, margin=POINT),
    "boundary_ap": Metric("boundary AP", HIGHER, "dense", mean("boundary_ap"), share=True, leading=True, margin=POINT),
    "dse": Metric("DSE", HIGHER, "health", mean("dse"), ratio=False),
    "dse_inter": Metric("DSE, between clusters", HIGHER, "health", mean("dse_inter")),
    "dse_intra": Metric("DSE, within clusters", LOWER, "health", mean("dse_intra")),
    "dse_dim": Metric("DSE, dimensions", HIGHER, "health", mean("dse_dim")),
    "cls_patch_cosine": Metric("CLS-patch cosine", LOWER, "health", mean("cls_patch_cosine"), ratio=False),
    "locality": Metric("locality", HIGHER, "health", mean("locality"), ratio=False),
    "effective_rank": Metric("effective rank", HIGHER, "health", mean("effective_rank")),
    "rankme": Metric("RankMe", HIGHER, "health", mean("rankme")),
    "norm_outliers": Metric("patch-norm outliers", LOWER, "health", mean("norm_outliers"), share=True, ratio=False),
    "gram_drift": Metric("Gram drift", LOWER, "health", mean("gram_drift"), relative=True),
}
LEADING = tuple(name for name, metric in METRICS.items() if metric.leading)
RELATIVE = frozenset(name for name, metric in METRICS.items() if metric.relative)


def metric_of(name: str) -> Metric:
    """The metric of a name; one with a tag, `top1@10`, is the metric before the tag on outcomes that bear it.

    Raises:
        BadInput: an unknown metric.
    """
    base, _, tag = name.partition("@")
    if base not in METRICS:
        raise BadInput(f"got metric {name!r}: want one of {', '.join(METRICS)}; do correct the name")
    metric = METRICS[base]
    return metric._replace(label=f"{metric.label} @{tag}", measure=tagged(metric.measure, tag)) if tag else metric


def write_number(metric: Metric, number: float, *, like: float, sign: str = "") -> str:
    """A number for reading, shares as per cent, with the decimal places that a value of the size of `like` needs."""
    if metric.share:
        return f"{100 * number:{sign}.2f}"
    size = abs(like) if math.isfinite(like) and like else 1.0
    if not 1e-3 <= size < 1e6:
        return f"{number:{sign}.2e}"
    return f"{number:{sign}.{max(3 - math.floor(math.log10(size)), 1)}f}"
