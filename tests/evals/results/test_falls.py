"""Falls from the peak: what they are of, what they do not depend on, and where nothing can be told of one."""

import math

import numpy as np
import pytest

from common.errors import BadInput
from evals.results.bootstrap import paired_difference, value
from evals.results.falls import fall, fall_over_images
from evals.results.metrics import METRICS

DRAWS = np.random.default_rng(0).uniform(0.1, 1.0, (40, 6))
SIDES = [(higher, ratio) for higher in (True, False) for ratio in (True, False)]


@pytest.mark.parametrize(
    ("values", "higher", "ratio", "found"),
    [
        ([0.2, 0.4, 0.36], True, True, 0.1),
        ([0.2, 0.4, 0.36], True, False, 0.04),
        ([0.9, 0.5, 0.6], False, True, 0.2),
        ([0.9, 0.5, 0.6], False, False, 0.1),
        ([-0.1, 0.05, -0.05], True, False, 0.1),
        ([0.4, 0.0], True, True, 1.0),
        ([0.5, 1.5], False, True, 2.0),
    ],
)
def test_a_fall_is_a_share_of_the_best_value_or_in_the_metric_s_unit(values, higher, ratio, found):
    assert fall(values, higher_is_better=higher, ratio=ratio) == pytest.approx(found)


@pytest.mark.parametrize(("higher", "ratio"), SIDES)
def test_nothing_has_fallen_where_the_last_value_is_the_best(higher, ratio):
    for values in DRAWS:
        rising = sorted(values, reverse=not higher)
        assert fall(rising, higher_is_better=higher, ratio=ratio) == 0
        assert fall([*values, values[-1]], higher_is_better=higher, ratio=ratio) == fall(
            values, higher_is_better=higher, ratio=ratio
        )
    for values in ([0.3], [0.0], [0.0, 0.0], [-1.0, -1.0]):
        assert fall(values, higher_is_better=higher, ratio=ratio) == 0


@pytest.mark.parametrize(("higher", "ratio"), SIDES)
def test_only_the_best_and_the_last_value_count(higher, ratio):
    for values in DRAWS:
        found = fall(values, higher_is_better=higher, ratio=ratio)
        best = max(values) if higher else min(values)
        assert found >= 0
        assert found == fall([best, values[-1]], higher_is_better=higher, ratio=ratio)
        shuffled = [*np.random.default_rng(1).permutation(values[:-1]), values[-1]]
        assert found == fall(shuffled, higher_is_better=higher, ratio=ratio)


@pytest.mark.parametrize("higher", [True, False])
def test_a_share_knows_no_unit_and_a_difference_no_origin(higher):
    for values in DRAWS:
        share, gap = (fall(values, higher_is_better=higher, ratio=ratio) for ratio in (True, False))
        assert fall(100 * values, higher_is_better=higher) == pytest.approx(share)
        assert fall(values - 0.7, higher_is_better=higher, ratio=False) == pytest.approx(gap)
        assert fall(-values, higher_is_better=not higher, ratio=False) == pytest.approx(gap)
        if higher:
            assert share <= 1


@pytest.mark.parametrize("higher", [True, False])
def test_an_error_that_doubles_and_an_accuracy_that_halves_are_not_told_as_one_size(higher):
    """A share is of the best value, whichever side that is: docs and readers rest on it."""
    assert fall([1.0, 2.0] if not higher else [2.0, 1.0], higher_is_better=higher) == (0.5 if higher else 1.0)


@pytest.mark.parametrize("values", [[], [math.nan], [0.3, math.nan, 0.2], [0.3, 0.2, math.inf]])
@pytest.mark.parametrize(("higher", "ratio"), SIDES)
def test_of_a_value_that_is_not_finite_or_of_none_nothing_can_be_told(values, higher, ratio):
    assert math.isnan(fall(values, higher_is_better=higher, ratio=ratio))


@pytest.mark.parametrize(("values", "higher"), [([0.0, 0.1], False), ([0.0, -0.1], True), ([-0.1, -0.2], True)])
def test_no_share_is_told_of_a_best_value_that_is_not_above_zero(values, higher):
    assert math.isnan(fall(values, higher_is_better=higher))
    assert fall(values, higher_is_better=higher, ratio=False) == pytest.approx(0.1)


def test_differences_and_cosines_fall_in_their_own_unit_and_errors_and_accuracies_as_shares():
    assert {name for name, metric in METRICS.items() if not metric.ratio} == {
        "dse", "locality", "cls_patch_cosine", "norm_outliers"
    }  # fmt: skip


def outcomes(rng, name, centre, images=200):
    return {"keys": np.arange(images), name: rng.normal(centre, 0.1, images)}


@pytest.mark.parametrize(("name", "best", "last"), [("delta1", 0.8, 0.6), ("rmse", 0.5, 0.7), ("locality", 0.2, 0.1)])
def test_the_interval_over_images_holds_the_fall_and_shrinks_with_their_number(name, best, last):
    widths = []
    for images in (100, 6400):
        rng = np.random.default_rng(3)
        before, after = outcomes(rng, name, best, images), outcomes(rng, name, last, images)
        found = fall_over_images(name, before, after)
        metric = METRICS[name]
        ends = [value(name, before), value(name, after)]
        assert found.value == pytest.approx(
            fall(ends, higher_is_better=metric.higher_is_better, ratio=metric.ratio)
        )  # fmt: skip
        assert found.low < found.value < found.high
        widths.append(found.high - found.low)
    assert widths[1] < widths[0] / 5


def test_in_the_metric_s_unit_the_interval_is_that_of_the_paired_difference():
    rng = np.random.default_rng(4)
    before, after = outcomes(rng, "locality", 0.2), outcomes(rng, "locality", 0.1)
    assert fall_over_images("locality", before, after) == pytest.approx(paired_difference("locality", after, before))


def test_a_fall_that_no_image_shows_has_an_interval_around_none():
    rng = np.random.default_rng(5)
    before = outcomes(rng, "delta1", 0.7)
    after = {**before, "delta1": before["delta1"][::-1].copy()}
    found = fall_over_images("delta1", before, after)
    assert found.value == pytest.approx(0)
    assert found.low < 0 < found.high


def test_checkpoints_without_an_image_in_common_have_no_interval():
    rng = np.random.default_rng(6)
    before, after = outcomes(rng, "rmse", 0.5), outcomes(rng, "rmse", 0.6)
    with pytest.raises(BadInput, match="no image in common"):
        fall_over_images("rmse", before, {**after, "keys": after["keys"] + 1000})
