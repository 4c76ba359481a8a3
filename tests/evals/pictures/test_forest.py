from __future__ import annotations

from dataclasses import replace

import pytest
from matplotlib.colors import to_rgba

from evals.pictures.forest import forest_figure
from evals.pictures.sheet import BLUE, SOFT, VERMILION
from evals.results.differences import Difference
from evals.results.evaluations import EvaluationKey

KNN = EvaluationKey("knn", "scenes", "val", "knn-quick-v1", 64, "0a1b2c3d")
DEPTH = EvaluationKey("depth", "scenes", "val", "depth-quick-v1", 64, "0a1b2c3d")
TOP1 = Difference(KNN, "top1@10", 0.30, 0.35, 0.05, 0.01, 0.09, images=90, images_a=90, images_b=90)
RMSE = replace(TOP1, about=DEPTH, metric="rmse", a=0.5, b=0.6, difference=0.1, low=0.05, high=0.15)


def test_each_evaluation_has_a_heading_and_each_metric_its_numbers_in_its_unit():
    figure = forest_figure([TOP1, RMSE], a="runs/one", b="runs/other")
    texts = [text.get_text() for text in figure.texts]
    for said in (
        "A  runs/one",
        "B  runs/other",
        "knn on scenes/val, knn-quick-v1 at 64 px, 90 images",
        "top-1 accuracy @10",
        "+5.00 points  (+1.00 to +9.00)",
        "depth RMSE",
        "+0.1000 m  (+0.0500 to +0.1500)",
    ):
        assert said in texts


def test_better_worse_and_undecided_differ_in_colour_and_in_marker():
    unsure = replace(TOP1, metric="top5@10", low=-0.02)
    figure = forest_figure([TOP1, unsure, RMSE], a="A", b="B")
    marks = [
        axes.lines[2 * place + 2] for axes, place in ((figure.axes[0], 0), (figure.axes[0], 1), (figure.axes[1], 0))
    ]
    assert [to_rgba(mark.get_color()) for mark in marks] == [to_rgba(colour) for colour in (BLUE, SOFT, VERMILION)]
    assert len({mark.get_marker() for mark in marks}) == 3


def test_metrics_share_an_axis_only_where_unit_and_spread_are_alike():
    tiny = replace(RMSE, metric="mae", difference=0.001, low=0.0005, high=0.0015)
    share = replace(RMSE, metric="delta1")
    alike = replace(RMSE, metric="sq_rel", high=0.2)
    figure = forest_figure([RMSE, tiny, share, alike], a="A", b="B")
    assert [(len(axes.lines) - 1) // 2 for axes in figure.axes] == [2, 1, 1]


def test_every_axis_shows_zero_and_whole_intervals():
    figure = forest_figure([TOP1, RMSE], a="A", b="B")
    for axes, low, high in zip(figure.axes, (0, 0), (9, 0.15), strict=True):
        left, right = axes.get_xlim()
        assert left < low
        assert right > high


@pytest.mark.parametrize("bound", [0.0, float("nan")])
def test_equal_sides_and_unknown_intervals_are_drawn(bound: float):
    one = replace(TOP1, difference=0.0, low=bound, high=bound)
    left, right = forest_figure([one], a="A", b="B").axes[0].get_xlim()
    assert left < 0 < right
