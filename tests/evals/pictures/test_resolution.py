from __future__ import annotations

import numpy as np
import pytest

from evals.pictures.resolution import resolution_figure, series
from evals.results.table import Measurement


def measured(size: int, metric: str = "miou", value: float = 0.3, dataset: str = "rooms") -> Measurement:
    return Measurement(
        eval="segmentation", protocol="segmentation-quick-v1", protocol_hash=f"{size}", size=size, dataset=dataset,
        split="val", data="", metric=metric, value=value, low=value - 0.1, high=value + 0.1, images=9, outcomes={},
    )  # fmt: skip


def test_measurements_of_one_metric_are_joined_over_sizes_and_single_ones_left_out():
    found = [measured(448), measured(224), measured(224, "fscore"), measured(224, dataset="streets")]
    assert [[m.size for m in line] for line in series(found)] == [[224, 448]]
    assert series([measured(224), measured(224)]) == []


def test_a_panel_shows_values_in_their_unit_over_the_sizes_that_were_measured():
    sizes = [96, 192, 384]
    found = [measured(s, value=v) for s, v in zip(sizes, (0.2, 0.35, 0.3), strict=True)]
    found += [measured(s, "fscore") for s in sizes]
    figure = resolution_figure(found, title="tiny")
    first, second = figure.axes
    np.testing.assert_allclose(first.lines[0].get_xdata(), sizes)
    np.testing.assert_allclose(first.lines[0].get_ydata(), [20, 35, 30])
    band = first.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((10, 45))
    assert [text.get_text() for text in first.get_xticklabels()] == ["96", "192", "384"]
    assert second.get_ylim() != first.get_ylim()
    said = [text.get_text() for text in figure.texts]
    assert "segmentation: mIoU (%)" in said
    assert said.count("rooms/val, higher is better") == 2
