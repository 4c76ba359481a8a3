"""Alarms replayed over finished runs: when they are raised, whether rightly, and how the best of many is held out."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from harness.dense_watch import settled
from harness.losses.gram import Gram
from reports.estimates import Column
from reports.evidence.alarms import LEVELS, best, fallen_since, held_out, rates, replayed, wilson
from reports.tracks import Track

STEPS = range(100, 900, 100)
KEPT = [0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6]
LOST = [0.3, 0.5, 0.6, 0.6, 0.6, 0.58, 0.55, 0.5]  # below its peak by 5 % from step 700 on
WELL = [0.2] * 8
SICK = [0.2, 0.2, 0.2, 0.2, 0.15, 0.15, 0.15, 0.15]  # fallen by a quarter at step 500
LATE = [0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.15, 0.15]


def _column(metric, evaluation="health"):
    return Column(evaluation, "scenes", "test", metric, "quick-v1", "aa", 64)


def _track(miou, arm="plain", seed=0, experiment="e", **signs):
    values = {_column("miou", "segmentation"): miou, **{_column(name): value for name, value in signs.items()}}
    return Track(experiment, arm, seed, 0, pd.DataFrame(values, index=STEPS, dtype=float))


def _only(found):
    (row,) = found.to_dict("records")
    return row


def _best(replays):
    found = best(rates(replays))
    assert found is not None
    return found


# --- one run


@pytest.mark.parametrize(
    ("values", "step"),
    [
        ([0.5, 0.6, 0.58, 0.56], 3),
        ([0.5, 0.6, 0.56, 0.58], None),  # it had fallen, and came back
        ([0.5, 0.6, 0.56, 0.58, 0.55, 0.5], 4),
        ([0.1, 0.2, 0.3], None),
        ([0.6, 0.5, 0.4], 1),
        ([-0.7, -0.6, -0.62, -0.64], 3),  # an error, its sign changed
        ([], None),
    ],
)
def test_a_metric_has_fallen_since_the_step_from_which_on_it_stays_below_its_peak(values, step):
    assert fallen_since(dict(enumerate(values)), share=0.05) == step


@pytest.mark.parametrize(
    ("miou", "locality", "outcome", "raised", "lead"),
    [
        (LOST, SICK, "right", 500, 200),
        (LOST, WELL, "missed", math.nan, math.nan),
        (LOST, LATE, "missed", 700, math.nan),  # no sooner than labels would tell
        (KEPT, SICK, "wrong", 500, math.nan),
        (KEPT, WELL, "silent", math.nan, math.nan),
    ],
)
def test_an_alarm_is_right_where_it_comes_before_a_fall_that_stays(miou, locality, outcome, raised, lead):
    row = _only(replayed([_track(miou, locality=locality)], levels=[0.1]))
    assert row["outcome"] == outcome
    assert [row["raised"], row["lead"]] == pytest.approx([raised, lead], nan_ok=True)


def test_an_alarm_is_replayed_as_training_would_raise_it():
    values = 1 + 0.2 * np.random.default_rng(0).standard_normal((20, len(STEPS))).cumsum(axis=1)
    fired = 0
    for seed, locality in enumerate(values):
        for row in replayed([_track(KEPT, seed=seed, locality=locality)]).to_dict("records"):
            gram = Gram(weight=1.0, start="alarm", measure="locality", alarm_drop=row["level"], start_step=0)
            own = settled(gram, dict(zip(STEPS, locality, strict=True)), stop=10_000)
            assert (own.start_step if own.start == "step" else None) == (
                None if math.isnan(row["raised"]) else row["raised"]
            )
            fired += own.start == "step"
    assert 0 < fired < len(values) * len(LEVELS)


def test_the_unit_of_a_sign_and_that_of_a_metric_change_nothing():
    one = replayed([_track(LOST, locality=SICK)])
    other = replayed([_track(np.multiply(7, LOST), locality=np.multiply(0.25, SICK))])
    pd.testing.assert_frame_equal(one, other)


def test_a_run_of_few_checkpoints_tells_nothing():
    track = _track(LOST, locality=SICK)
    assert replayed([Track("e", "plain", 0, 0, track.values.iloc[:5])]).empty
    assert rates(replayed([])).empty


# --- many runs


def _many():
    found = [_track(LOST, seed=seed, locality=SICK if seed < 3 else WELL) for seed in range(4)]
    return [*found, *(_track(KEPT, arm=f"kept{n}", seed=n % 2, locality=SICK if n == 0 else WELL) for n in range(6))]


def test_rates_count_runs_and_their_intervals_seeds():
    row = _only(rates(replayed(_many(), levels=[0.1])))
    assert [row[name] for name in ("right", "missed", "wrong", "silent")] == [3, 1, 1, 5]
    assert (row["hits"], row["false"], row["youden"], row["lead"]) == (0.75, 1 / 6, 0.75 - 1 / 6, 200)
    assert (row["hits_low"], row["hits_high"]) == pytest.approx(wilson(0.75, 4))
    assert (row["false_low"], row["false_high"]) == pytest.approx(wilson(1 / 6, 2))  # of two seeds, not of six runs


@pytest.mark.parametrize(("count", "of"), [(0, 5), (5, 5), (3, 7), (1, 1), (40, 90)])
def test_the_interval_of_a_share_is_wilsons(count, of):
    oracle = binomtest(count, of).proportion_ci(method="wilson")
    assert wilson(count / of, of) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_without_runs_that_fall_or_runs_that_keep_there_is_no_best_alarm():
    for miou in (LOST, KEPT):
        assert best(rates(replayed([_track(miou, seed=seed, locality=SICK) for seed in range(3)]))) is None
    assert best(rates(replayed([_track(LOST, locality=WELL), _track(KEPT, arm="kept", locality=SICK)]))) is None


def test_of_equally_good_alarms_the_one_with_fewer_false_ones_is_best_and_then_the_earlier_one():
    table = pd.DataFrame(
        [
            {"measure": "a", "youden": 0.4, "wrong": 2, "lead": 900.0},
            {"measure": "b", "youden": 0.1 + 0.3, "wrong": 1, "lead": 100.0},
            {"measure": "c", "youden": 0.4, "wrong": 1, "lead": 300.0},
            {"measure": "d", "youden": 0.3, "wrong": 0, "lead": 900.0},
        ]
    )
    assert (best(table) or {})["measure"] == "c"
    assert best(table.iloc[:0]) is None


def _drawn(draws, knows, seeds=8):
    """Half of the runs fall; twelve signs know nothing of it; one does, if it `knows`."""
    names = ["dse", "dse_inter", "dse_intra", "dse_dim", "cls_patch_cosine", "effective_rank", "rankme"]
    for seed in range(seeds):
        falls = seed % 2 == 0
        signs = {name: 1 + 0.05 * draws.standard_normal(len(STEPS)).cumsum() for name in names}
        signs["locality"] = SICK if falls and knows else WELL
        yield _track(LOST if falls else KEPT, seed=seed, **signs)


def test_the_best_of_many_alarms_that_know_nothing_does_not_hold_on_runs_that_did_not_choose_it():
    draws = np.random.default_rng(1)
    seen, kept = [], []
    for _ in range(6):
        replays = replayed(list(_drawn(draws, knows=False)), levels=[0.02, 0.05, 0.1])
        seen.append(_best(replays)["youden"])
        out = held_out(replays)
        assert len(out) == 8
        kept.append(_only(rates(out, ["metric"]))["youden"])
    assert np.mean(seen) > 0.3
    assert np.mean(kept) < 0.05  # leaving one out errs to the low side: what it leaves has more of the other kind


def test_an_alarm_that_knows_holds_on_runs_that_did_not_choose_it():
    replays = replayed(list(_drawn(np.random.default_rng(2), knows=True)), levels=[0.1])
    assert [_best(replays)[name] for name in ("measure", "level", "youden")] == ["locality", 0.1, 1]
    assert set(held_out(replays)["measure"]) == {"locality"}
    assert _only(rates(held_out(replays), ["metric"]))["youden"] == 1


def test_whole_experiments_are_left_out_where_there_are_several_and_nothing_where_there_is_one_seed():
    # In experiment e the sign is right, in f it is wrong: chosen on e it fails on f, chosen on f there is none
    found = [_track(LOST, locality=SICK), _track(KEPT, arm="kept", locality=WELL)]
    found += [_track(LOST, experiment="f", locality=WELL), _track(KEPT, "kept", experiment="f", locality=SICK)]
    out = held_out(replayed(found, levels=[0.1]))
    assert dict(zip(zip(out["experiment"], out["arm"], strict=True), out["outcome"], strict=True)) == {
        ("e", "plain"): "missed",
        ("e", "kept"): "silent",
        ("f", "plain"): "missed",
        ("f", "kept"): "wrong",
    }
    assert held_out(replayed(found[:2], levels=[0.1])).empty
