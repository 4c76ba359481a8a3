from dataclasses import fields

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from evals.results.bootstrap import paired_difference
from evals.results.outcomes import save_outcomes
from evals.results.table import Measurement, Value
from reports.run_folder import read
from reports.tables import (
    Column,
    best,
    columns,
    difference,
    effort,
    final,
    mixed,
    other_dense,
    primary,
    student_interval,
    tidy,
    trajectory,
)


def _seeds(make_row, arm, values, **changes):
    return [make_row(arm=arm, seed=seed, value=value, **changes) for seed, value in enumerate(values)]


def test_the_interval_over_seeds_is_students_t():
    mean, low, high = student_interval([0.50, 0.53, 0.58])
    # by hand: mean 1.61/3, s = 0.0404145, t(2, 0.975) = 4.302653, half = t s / sqrt(3) = 0.1003957
    assert mean == pytest.approx(0.5366667)
    assert (low, high) == pytest.approx((0.5366667 - 0.1003957, 0.5366667 + 0.1003957), abs=1e-6)
    oracle = ttest_1samp([0.50, 0.53, 0.58], 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((oracle.low, oracle.high))


def test_one_seed_has_a_value_but_no_interval_over_seeds():
    mean, low, high = student_interval([0.4, float("nan")])
    assert mean == 0.4
    assert np.isnan(low)
    assert np.isnan(high)
    assert np.isnan(student_interval([])).all()


def test_a_value_is_the_mean_over_seeds_at_the_last_step(bare_run, make_row):
    rows = _seeds(make_row, "plain", [0.1, 0.1], step=50) + _seeds(make_row, "plain", [0.4, 0.6], step=100)
    run = read(bare_run(rows))
    found = final(run, columns(run)[0], "plain")
    assert found is not None
    assert (found.value, found.step, found.seeds, found.over) == (0.5, 100, 2, "seeds")
    assert found.high - found.value == pytest.approx(12.7062047 * 0.1)  # t(1, 0.975) s / sqrt(2), s = 0.1414


def test_one_seed_keeps_the_interval_over_images_of_its_row(bare_run, make_row):
    run = read(bare_run([make_row(low=0.41, high=0.62)]))
    found = final(run, columns(run)[0], "plain")
    assert found is not None
    assert (found.low, found.high, found.over) == (0.41, 0.62, "images")


def test_differences_are_paired_by_seed(bare_run, make_row):
    rows = _seeds(make_row, "plain", [0.2, 0.5, 0.8]) + _seeds(make_row, "anchored", [0.22, 0.53, 0.81])
    run = read(bare_run(rows))
    found = difference(run, columns(run)[0], "anchored")
    assert found is not None
    assert found.value == pytest.approx(0.02)
    # differences 0.02, 0.03, 0.01: s = 0.01; the spread of 0.3 between seeds must not enter
    assert found.high - found.value == pytest.approx(4.302653 * 0.01 / np.sqrt(3), rel=1e-6)
    assert not found.excludes_zero
    assert found.over == "seeds"


def test_differences_compare_the_last_step_that_both_arms_have(bare_run, make_row):
    rows = [make_row(step=50, value=0.2), make_row(step=100, value=0.9)]
    run = read(
        bare_run([*rows, make_row(arm="anchored", step=50, value=0.3), make_row(arm="anchored", step=75, value=0.8)])
    )
    found = difference(run, columns(run)[0], "anchored")
    assert found is not None
    assert found.step == 50
    assert found.value == pytest.approx(0.1)


def test_one_seed_is_paired_by_image(bare_run, make_row):
    rng, kept, rows = np.random.default_rng(0), {}, []
    for arm, share in (("plain", 0.4), ("anchored", 0.7)):
        kept[arm] = {
            "keys": np.array([f"{n:03d}" for n in range(60)]),
            "correct": (rng.random(60) < share).astype(float),
        }
        rows.append(make_row(arm=arm, value=float(kept[arm]["correct"].mean())))
    folder = bare_run(rows)
    for arm in kept:
        value = {field.name: getattr(rows[0], field.name) for field in fields(Value)}
        save_outcomes(folder / f"{arm}-s0" / "step_000100" / "outcomes", [Measurement(**value, outcomes=kept[arm])])
    run = read(folder)
    found, oracle = (
        difference(run, columns(run)[0], "anchored"),
        paired_difference("top1", kept["plain"], kept["anchored"]),
    )
    assert found is not None
    assert found.over == "images"
    assert (found.value, found.low, found.high) == pytest.approx(tuple(oracle))
    assert found.low < found.value < found.high


def test_without_outcomes_one_seed_gives_a_difference_and_no_interval(bare_run, make_row):
    run = read(bare_run([make_row(value=0.5), make_row(arm="anchored", value=0.6)]))
    found = difference(run, columns(run)[0], "anchored")
    assert found is not None
    assert found.over == ""
    assert np.isnan(found.low)
    assert found.value == pytest.approx(0.1)


def test_unlike_protocols_never_share_a_column(bare_run, make_row):
    other = [make_row(arm="anchored", value=0.9, protocol_hash="bb"), make_row(arm="third", protocol="full-v1")]
    run = read(bare_run([make_row(), *other]))
    found = columns(run)
    assert len(found) == len({(column.protocol, column.protocol_hash) for column in found}) == 3
    for column in found:
        assert sum(final(run, column, arm) is not None for arm in run.arms) == 1
        assert all(difference(run, column, arm) is None for arm in run.others)
    assert len(mixed(run)) == 1
    assert "3 protocols" in mixed(run)[0]


def test_an_arm_begins_where_the_trunk_ends(bare_run, make_row):
    trunk = [make_row(arm="trunk", step=step, value=step / 100) for step in (0, 10, 20)]
    run = read(bare_run([*trunk, make_row(step=30, value=0.7)], trunk_steps=20))
    steps = {lane: [point.step for point in trajectory(run, columns(run)[0], lane)] for lane in run.lanes}
    assert steps == {"trunk": [0, 10, 20], "plain": [20, 30]}


def test_values_that_are_not_finite_are_left_out(bare_run, make_row):
    run = read(bare_run([make_row(step=50, value=0.3), make_row(step=100, value=float("nan"))]))
    found = final(run, columns(run)[0], "plain")
    assert found is not None
    assert (found.step, found.value) == (50, 0.3)


def test_the_best_arm_is_the_lowest_where_lower_is_better(bare_run, make_row):
    depth = {"eval": "depth", "metric": "rmse"}
    run = read(bare_run([make_row(value=1.0, **depth), make_row(arm="anchored", value=0.9, **depth)]))
    column = columns(run)[0]
    assert best({arm: final(run, column, arm) for arm in run.arms}, column) == "anchored"
    assert best({"plain": final(run, column, "plain")}, column) is None


def test_the_trade_off_uses_the_columns_that_most_arms_have(bare_run, make_row):
    rows = [
        make_row(arm=arm, eval=name) for arm, name in (("plain", "knn"), ("plain", "linear"), ("anchored", "linear"))
    ]
    run = read(bare_run(rows))
    column = primary(run, "global")
    assert column is not None
    assert column.eval == "linear"
    assert primary(run, "dense") is None


def test_columns_follow_the_table_of_metrics_and_like_evaluations_the_order_they_ran_in(bare_run, make_row):
    ran = [("health", "dse"), ("segmentation", "pixel_accuracy"), ("segmentation", "miou"), ("clustering", "miou")]
    ran += [("mine", "unheard"), ("knn", "top1"), ("linear", "top5"), ("depth", "rmse")]
    found = columns(read(bare_run([make_row(eval=name, metric=metric) for name, metric in ran])))
    assert [(column.eval, column.metric) for column in found] == [
        ("knn", "top1"),
        ("linear", "top5"),
        ("segmentation", "miou"),
        ("segmentation", "pixel_accuracy"),
        ("clustering", "miou"),
        ("depth", "rmse"),
        ("health", "dse"),
        ("mine", "unheard"),
    ]


@pytest.mark.parametrize(
    ("name", "metric", "title"),
    [
        ("knn", "top1@10", "kNN top-1 accuracy @10"),
        ("linear", "top5", "Linear top-5"),
        ("segmentation", "miou", "mIoU"),
        ("segmentation", "pixel_accuracy", "Pixel accuracy"),
        ("retrieval", "miou", "Retrieval mIoU"),
        ("depth", "delta1", "Depth δ1"),
        ("health", "dse_inter", "DSE, between clusters"),
        ("health", "locality", "Locality"),
        ("brightness", "rmse", "Brightness depth RMSE"),
    ],
)
def test_a_title_says_the_evaluation_where_the_metric_does_not(name, metric, title):
    assert Column(name, "scenes", "val", metric, "quick-v1", "aa", 64).title == title


@pytest.mark.parametrize(
    ("metrics", "other"), [(("miou", "rmse"), "rmse"), (("rmse", "delta1"), None), (("top1", "dse"), None)]
)
def test_the_other_dense_measure_is_a_leading_one_of_those_that_were_taken(bare_run, make_row, metrics, other):
    run = read(bare_run([make_row(eval="mine", metric=metric) for metric in metrics]))
    found = other_dense(run, primary(run, "dense"))
    assert (found and found.metric) == other


def test_effort_is_read_from_curves_and_status(make_run):
    run = read(make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}}))
    spent = effort(run, "plain")
    assert (spent.step, spent.images, spent.seconds) == (40, 32 * 40, pytest.approx(0.55 * 20))


def test_the_tidy_table_holds_every_row_once(make_run):
    run = read(make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}}))
    table = tidy(run)
    assert len(table) == len(run.rows)
    assert not table.duplicated(["arm", "seed", "step", "eval", "dataset", "metric", "protocol"]).any()
