"""Rank correlations of signs of health with labelled metrics, inside runs and across arms, and what bounds them."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, spearmanr, ttest_1samp

from reports.estimates import Column
from reports.ranks import ACROSS, CHANGES, FEWEST, INSIDE, correlations, rank_correlation, units
from reports.tracks import Track

STEPS = np.arange(100, 1300, 100)


def _column(metric, evaluation="health"):
    return Column(evaluation, "scenes", "test", metric, "quick-v1", "aa", 64)


LOCALITY, MIOU = _column("locality"), _column("miou", "segmentation")


def _track(locality, miou, *, arm="plain", seed=0, fork=0, experiment="e"):
    values = pd.DataFrame({LOCALITY: locality, MIOU: miou}, index=STEPS[: len(locality)], dtype=float)
    return Track(experiment, arm, seed, fork, values)


def _of(kind, found):
    (row,) = correlations(found).query("kind == @kind").to_dict("records")
    return row


# --- Spearman's correlation


def test_the_rank_correlation_is_spearmans_ties_included():
    draws = np.random.default_rng(0)
    for _ in range(50):
        x, y = draws.integers(0, 6, (2, 9))
        assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic, abs=1e-12)


def test_ranks_are_blind_to_every_rising_change_of_scale_and_turn_with_a_falling_one():
    x, y = np.random.default_rng(1).standard_normal((2, 20))
    found = rank_correlation(x, y)
    assert rank_correlation(np.exp(3 * x), y**3) == found == rank_correlation(y, x)
    assert rank_correlation(-x, y) == pytest.approx(-found, abs=1e-12)


def test_what_does_not_vary_has_no_rank_correlation():
    assert np.isnan(rank_correlation([0.0, 0.0, 0.0], [1.0, 2.0, 3.0]))


# --- a known truth


def follows_and_opposes(seeds=5, arms=4, noise=0.002):
    """Inside a run locality rises and falls with mIoU; the more mIoU an arm has, the less locality."""
    draws = np.random.default_rng(2)
    shape = np.sin(np.linspace(0.3, 2.6, len(STEPS)))
    for seed, arm in product(range(seeds), range(arms)):
        here, there = noise * draws.standard_normal((2, len(STEPS)))
        yield _track(shape - 2 * arm + here, shape + 2 * arm + there, arm=f"arm{arm}", seed=seed)


def test_a_measure_that_follows_inside_runs_and_opposes_across_arms_is_told_as_both():
    found = list(follows_and_opposes())
    assert {kind: _of(kind, found)["value"] > 0.95 for kind in (INSIDE, CHANGES)} == {INSIDE: True, CHANGES: True}
    across = _of(ACROSS, found)
    assert across["value"] == pytest.approx(-1)
    assert (across["seeds"], across["correlations"]) == (5, 5 * len(STEPS))


def test_two_measures_that_both_grow_with_the_step_and_nothing_else_agree_in_level_alone():
    draws = np.random.default_rng(3)
    found = []
    for seed in range(20):
        x, y = draws.uniform(0.5, 1.5, (2, len(STEPS))).cumsum(axis=1)  # steps up of independent sizes
        found.append(_track(x, y, seed=seed))
    assert _of(INSIDE, found)["value"] == 1
    assert _of(CHANGES, found)["low"] < 0 < _of(CHANGES, found)["high"]


def test_a_metric_whose_lower_side_is_better_is_ranked_by_that_side(bare_run, make_row):
    from reports.run_folder import read
    from reports.tracks import tracks

    draws = np.random.default_rng(4)
    rows = []
    for step, quality in zip(STEPS, draws.standard_normal(len(STEPS)), strict=True):
        for name, metric, sign in (("health", "cls_patch_cosine", -1), ("depth", "rmse", -1), ("knn", "top1", 1)):
            rows.append(make_row(eval=name, metric=metric, step=int(step), value=sign * quality))
    found = correlations(tracks(read(bare_run(rows))))
    assert found.query("kind == @INSIDE").set_index("metric")["value"].to_dict() == {"rmse": 1.0, "top1": 1.0}


# --- what counts


def test_the_mean_is_over_seeds_and_its_interval_students_over_their_means():
    draws = np.random.default_rng(5)
    found = [_track(*draws.standard_normal((2, 8)), arm=arm, seed=seed) for seed in range(4) for arm in ("a", "b", "c")]
    means = [
        np.mean([spearmanr(*track.values.to_numpy().T).statistic for track in found if track.seed == seed])
        for seed in range(4)
    ]
    oracle = ttest_1samp(means, 0).confidence_interval(0.95)
    row = _of(INSIDE, found)
    assert (row["value"], row["low"], row["high"]) == pytest.approx((np.mean(means), oracle.low, oracle.high))
    assert (row["seeds"], row["correlations"]) == (4, 12)


def test_one_seed_and_seeds_that_agree_wholly_have_no_interval_and_no_bound_lies_beyond_one():
    draws = np.random.default_rng(6)
    one = [_track(*draws.standard_normal((2, 8)), arm=arm) for arm in "abc"]
    assert np.isnan([_of(INSIDE, one)["low"], _of(INSIDE, one)["high"]]).all()
    alike = [_track(STEPS[:8], STEPS[:8], seed=seed) for seed in range(5)]
    assert _of(INSIDE, alike)["value"] == 1
    assert np.isnan(_of(INSIDE, alike)["low"])
    two = [_track(*draws.standard_normal((2, 8)), seed=seed) for seed in range(2)]
    assert (_of(INSIDE, two)["low"], _of(INSIDE, two)["high"]) == (-1, 1)


def test_a_run_of_few_checkpoints_is_left_out_and_gaps_count_as_none():
    x = np.arange(FEWEST, dtype=float)
    assert set(units([_track(x, x)])["kind"]) == {INSIDE, CHANGES}
    assert units([_track(x, np.where(x == 2, np.nan, x))]).empty
    sparse = np.where(np.arange(2 * FEWEST) % 2, np.nan, np.arange(2.0 * FEWEST) ** 2)
    found = units([_track(np.arange(2.0 * FEWEST) ** 3, sparse)])  # changes between checkpoints that have both
    assert found.query("kind == @CHANGES")["value"].notna().all()


def test_arms_are_compared_at_steps_of_their_own_and_never_across_seeds_or_experiments():
    x = np.arange(4.0)
    arms = [_track(x, x, arm="a", fork=200), _track(x + 1, x - 1, arm="b", fork=300)]
    found = units([*arms, _track(9 * x, -x, arm="c", seed=1), _track(9 * x, -x, arm="d", experiment="f")])
    assert found.query("kind == @ACROSS")[["step", "value"]].to_dict("list") == {"step": [400], "value": [-1.0]}


def test_arms_are_compared_where_most_of_them_stand_since_a_pair_ranks_as_one_or_minus_one():
    alone = np.where(np.arange(4) == 2, np.nan, np.arange(4.0))  # arm c has nothing at step 300
    arms = [_track(np.arange(4.0) * way, np.arange(4.0), arm=arm) for arm, way in (("a", 1), ("b", -1))]
    found = units([*arms, _track(alone, alone, arm="c")])
    assert set(found.query("kind == @ACROSS")["step"]) == {100, 200, 400}
    assert set(units(arms).query("kind == @ACROSS")["step"]) == {100, 200, 300, 400}


def test_nothing_measured_without_labels_gives_an_empty_table():
    track = _track(STEPS, STEPS)
    assert correlations([Track("e", "plain", 0, 0, track.values[[MIOU]])]).empty
    assert correlations([]).empty


# --- intervals of curves that hang together


def _walks(draws, seeds=5):
    """Two arms a seed with a trunk in common; both measures wander, and know nothing of one another."""
    for seed in range(seeds):
        trunk = draws.standard_normal((2, 6))
        for arm in "ab":
            walk = np.concatenate([trunk, draws.standard_normal((2, 6))], axis=1).cumsum(axis=1)
            yield _track(*walk, arm=arm, seed=seed, fork=600)


def test_the_interval_over_seeds_holds_where_one_over_checkpoints_does_not():
    draws = np.random.default_rng(7)
    ours, naive, times = 0, 0, 80
    for _ in range(times):
        found = list(_walks(draws))
        row = _of(INSIDE, found)
        ours += row["low"] < 0 < row["high"]
        checkpoints = sum(len(track.values) for track in found)
        naive += abs(np.arctanh(row["value"])) < norm.ppf(0.975) / np.sqrt(checkpoints - 3)
    assert ours / times > 0.88  # 95 % but for the chance of 80 trials
    assert naive / times < 0.75
