"""Words for differences: each where it is due, none where it is not, corrected over arms."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import false_discovery_control, norm

from evals.results.crossed import Crossed, crossed
from evals.results.metrics import METRICS, metric_of
from evals.results.verdicts import MOST_SEEDS, holm, seeds_needed, verdicts

MIOU, RMSE = METRICS["miou"], METRICS["rmse"]


def seen(value, spread=0.001, *, seeds=5, over_images=0.0, images=10_000):
    """A difference whose standard error is `spread`, of which `over_images` comes from images."""
    own = (spread**2 - over_images**2) * seeds
    draws = np.random.default_rng(0).normal(size=(4, seeds))
    made = crossed(np.zeros(seeds) + value, draws, images=images)
    return replace(made, seed_variance=own, image_variance=over_images**2)


def word(value, spread=0.001, *, metric=MIOU, baseline=0.4, **how):
    return verdicts(metric, {"arm": seen(value, spread)}, {"arm": baseline}, **how)["arm"].word


def test_a_difference_that_is_shown_is_better_or_worse():
    assert word(0.02) == "better"
    assert word(-0.02) == "worse"


def test_lower_is_better_where_it_is():
    assert word(-0.1, metric=RMSE, baseline=1.2) == "better"
    assert word(0.1, metric=RMSE, baseline=1.2) == "worse"
    assert word(0.001, 0.002, metric=RMSE, baseline=1.2) == "no worse than the margin"


def test_no_worse_takes_an_interval_that_ends_within_the_margin():
    assert word(-0.001, 0.002) == "no worse than the margin"  # 2.78 · 0.002 + 0.001 < 0.01
    assert word(-0.005, 0.002) == "undecided"
    assert word(-0.001, 0.002, margin=0.005) == "undecided"


def test_that_nothing_is_seen_is_no_verdict():
    assert word(0.0, 0.05) == "undecided"
    assert word(0.0, 0.05, margin=0.0) == "undecided"
    assert word(0.0, 0.001, margin=0.0) == "undecided"


def test_arms_that_differ_in_no_seed_and_no_image_are_undecided():
    """Nothing varies, so nothing tells how far chance could have gone: on eight images it is easily so."""
    for value in (0.0, 0.25):
        same = crossed(np.full(3, value), np.full((9, 3), value), images=8)
        found = verdicts(MIOU, {"arm": same}, {"arm": 0.4})["arm"]
        assert (found.word, found.seeds_needed, found.has_spread) == ("undecided", None, False)


def test_a_spread_that_sums_in_float64_leave_is_none():
    """A third of one value and two thirds of the same are not quite the value: no arm is decided by that."""
    rounded = np.array([0.1, 0.1]) / 3 + np.array([0.2, 0.2]) / 3 - 0.1
    draws = 1e-17 * np.random.default_rng(0).normal(size=(99, 2))
    found = verdicts(MIOU, {"arm": crossed(rounded + np.array([0, 2e-17]), draws, images=48)}, {"arm": 0.1})["arm"]
    assert (found.word, found.p_no_worse, found.has_spread) == ("undecided", 1.0, False)
    assert verdicts(MIOU, {"arm": seen(0.0, 1e-10)}, {"arm": 0.1})["arm"].has_spread


def test_a_difference_that_rounding_explains_is_no_difference():
    assert word(1e-8, 1e-10) == "no worse than the margin"
    assert word(1e-8, 1e-10, margin=0.0) == "undecided"


def test_one_seed_is_too_few():
    one = crossed(np.array([0.3]), np.random.default_rng(0).normal(0.3, 0.01, (99, 1)), images=500)
    found = verdicts(MIOU, {"arm": one}, {"arm": 0.4})["arm"]
    assert found.word == "too few seeds"
    assert math.isnan(found.p_different)
    assert math.isnan(found.p_no_worse)


def test_one_image_or_none_decides_nothing():
    assert verdicts(MIOU, {"arm": seen(0.2, images=1)}, {"arm": 0.4})["arm"].word == "undecided"
    unknown = crossed(np.array([0.2, 0.2]), np.full((9, 2), np.nan), images=5)
    assert verdicts(MIOU, {"arm": unknown}, {"arm": 0.4})["arm"].word == "undecided"


def test_drift_from_a_reference_is_neither_good_nor_bad():
    assert verdicts(METRICS["gram_drift"], {"arm": seen(0.2)}, {"arm": 0.4}) == {}


def test_the_margin_of_a_distance_follows_the_baseline_and_that_of_a_share_does_not():
    assert verdicts(RMSE, {"arm": seen(0.1)}, {"arm": 2.0})["arm"].margin == pytest.approx(0.06)
    assert verdicts(MIOU, {"arm": seen(0.1)}, {"arm": 0.9})["arm"].margin == 0.01
    assert metric_of("top1@10").margin == 0.005


def test_every_metric_that_is_better_or_worse_for_a_use_has_a_margin():
    assert [name for name, metric in METRICS.items() if (metric.margin > 0) == (metric.kind == "health")] == []


def test_holms_correction_is_that_of_the_book():
    # by hand: 4 · 0.01, 3 · 0.013, 2 · 0.03, 1 · 0.04, none below the one before
    assert holm([0.04, 0.01, 0.03, 0.013]) == pytest.approx([0.06, 0.04, 0.06, 0.04])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    p = [0.001, 0.2, 0.03]
    assert all(mine >= theirs for mine, theirs in zip(holm(p), false_discovery_control(p), strict=True))


def test_what_one_arm_alone_would_show_is_undecided_among_many():
    alone = seen(0.0032, 0.001)  # p = 0.033
    assert verdicts(MIOU, {"arm": alone}, {"arm": 0.4}, margin=0.0)["arm"].word == "better"
    arms = {f"arm{n}": replace(alone, value=0.0001 * n) for n in range(1, 5)} | {"arm": alone}
    found = verdicts(MIOU, arms, dict.fromkeys(arms, 0.4), margin=0.0)["arm"]
    assert (found.word, found.comparisons) == ("undecided", 5)
    assert found.p_different == pytest.approx(5 * 2 * alone.above(0.0))


def test_only_comparisons_that_are_made_are_corrected_for():
    """By hand: of five arms one is another's training, one the baseline's, one has a single seed, so two are compared.

    Holm takes the smaller of two p-values twice, and the larger once, yet none below the smaller one's.
    """
    one = crossed(np.array([0.3]), np.random.default_rng(0).normal(0.3, 0.01, (99, 1)), images=500)
    same = crossed(np.zeros(5), np.zeros((9, 5)), images=500)
    small, large = seen(0.0040, 0.001), seen(0.0030, 0.001)
    arms = {"small": small, "twin": small, "large": large, "same": same, "one": one}
    sides = {name: (name, "base") for name in arms} | {"twin": ("small", "base"), "same": ("base", "base")}
    found = verdicts(MIOU, arms, dict.fromkeys(arms, 0.4), sides=sides)
    p = {name: 2 * arms[name].above(0.0) for name in ("small", "large")}
    assert p["small"] < p["large"] < 0.05
    assert found["small"].p_different == found["twin"].p_different == pytest.approx(2 * p["small"])
    assert found["large"].p_different == pytest.approx(max(p["large"], 2 * p["small"]))
    assert math.isnan(found["same"].p_different)
    assert math.isnan(found["one"].p_different)
    assert {name: verdict.word for name, verdict in found.items()} == {
        "small": "better", "twin": "better", "large": "better", "same": "undecided", "one": "too few seeds"
    }  # fmt: skip
    assert {verdict.comparisons for verdict in found.values()} == {2}


def test_what_tells_nothing_of_chance_counts_with_the_others():
    """Left out by what was seen of it, it would leave the others a level that is too easy."""
    still = crossed(np.full(5, 0.25), np.full((9, 5), 0.25), images=8)
    found = verdicts(MIOU, {"still": still, "seen": seen(0.004)}, {"still": 0.4, "seen": 0.4})
    assert found["seen"].p_different == pytest.approx(2 * 2 * seen(0.004).above(0.0))
    assert (found["still"].word, found["still"].p_different) == ("undecided", 1.0)


def test_among_equal_arms_a_false_verdict_is_as_rare_as_one_would_be_alone():
    """1,000 experiments of five arms that are all the baseline: 5 % may name any of them better or worse.

    More than 74 of 1,000 happen once in 1,000 times at 5 %; without the correction there would be about 226.
    """
    rng, false = np.random.default_rng(0), 0
    for _ in range(1000):
        arms = {
            f"arm{n}": Crossed(float(x.mean()), 0, 0, 6, 10_000, float(x.var(ddof=1)), 0.0)
            for n, x in enumerate(rng.normal(size=(5, 6)))
        }
        false += any(v.word in ("better", "worse") for v in verdicts(MIOU, arms, dict.fromkeys(arms, 0.4)).values())
    assert false <= 74


def test_the_seeds_that_are_still_needed_are_those_that_a_repetition_confirms():
    """With so many seeds, four of five repetitions of the same truth decide; with half of them, fewer do."""
    one = seen(0.01, 0.006, seeds=3)
    wanted = int(seeds_needed(one, margin=0.0, comparisons=1))
    assert wanted > 3
    rng = np.random.default_rng(0)

    def decided(seeds):
        values = rng.normal(0.01, math.sqrt(one.seed_variance), (4000, seeds))
        found = [Crossed(float(x.mean()), 0, 0, seeds, 10_000, float(x.var(ddof=1)), 0.0) for x in values]
        return np.mean([verdicts(MIOU, {"a": x}, {"a": 0.4}, margin=0.0)["a"].word != "undecided" for x in found])

    assert 0.76 <= decided(wanted) <= 0.88
    assert decided(wanted // 2) < 0.76


def test_where_the_images_limit_it_no_number_of_seeds_decides():
    one = seen(0.01, 0.01, over_images=0.008)
    assert seeds_needed(one, margin=0.0, comparisons=1) == math.inf
    reach = (norm.ppf(0.975) + norm.ppf(0.8)) * 0.008
    assert seeds_needed(replace(one, value=reach * 1.1), margin=0.0, comparisons=1) < math.inf
    assert seeds_needed(replace(one, value=-0.01), margin=0.05, comparisons=1) < math.inf  # the margin is within reach


def test_a_small_difference_takes_more_seeds_than_are_counted():
    assert seeds_needed(seen(1e-6, 0.01), margin=0.0, comparisons=1) == MOST_SEEDS + 1
