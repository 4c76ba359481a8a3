from __future__ import annotations

import numpy as np
import pytest

from common.errors import BadInput
from evals.results.bootstrap import value
from evals.results.metrics import LEADING, METRICS, RELATIVE, metric_of

AREAS = ("miou", "fscore", "precision", "recall", "dice")


def test_a_metric_with_a_tag_is_its_metric_on_the_outcomes_that_bear_it():
    case = metric_of("top1@10")
    assert case == METRICS["top1"]._replace(label="top-1 accuracy @10", measure=case.measure)
    hits = {"keys": np.arange(4), "correct": np.ones(4), "correct@10": np.array([True, False, False, False])}
    assert (value("top1", hits), value("top1@10", hits)) == (1.0, 0.25)
    with pytest.raises(BadInput, match="got metric 'top2@10'"):
        metric_of("top2@10")


@pytest.mark.parametrize("name", sorted(METRICS.keys() - {"top1", "top5", "pixel_accuracy", "mean_accuracy", *AREAS}))
def test_a_metric_of_single_images_is_the_mean_of_the_outcome_of_its_name(name: str):
    others = {other: np.full(4, -9.0) for other in METRICS}
    found = {"keys": np.arange(4), **others, name: np.array([0.0, 1.0, 2.0, 5.0])}
    assert value(name, found) == 2.0


def test_what_leads_a_report_is_the_table_s_own_choice():
    """The first table and the second curve of a report hang on it."""
    assert LEADING == ("top1", "miou", "rmse", "angle", "boundary_ap")
    assert {"gram_drift"} == RELATIVE
