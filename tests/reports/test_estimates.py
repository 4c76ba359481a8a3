import numpy as np
import pytest
from scipy.stats import ttest_1samp

from reports.compared import compare
from reports.estimates import (
    Column,
    best,
    columns,
    final,
    mixed,
    other_dense,
    primary,
    seed_paths,
    student_interval,
    trajectory,
)
from reports.page import looks
from reports.paths import paths
from reports.run_folder import read
from reports.tidy import measured


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


def test_unlike_protocols_never_share_a_column(bare_run, make_row):
    other = [make_row(arm="anchored", value=0.9, protocol_hash="bb"), make_row(arm="third", protocol="full-v1")]
    run = read(bare_run([make_row(), *other]))
    found = columns(run)
    assert len(found) == len({(column.protocol, column.protocol_hash) for column in found}) == 3
    for column in found:
        assert sum(final(run, column, arm) is not None for arm in run.arms) == 1
    assert compare(run) == {}
    assert len(mixed(run)) == 1
    assert "3 protocols" in mixed(run)[0]


def test_an_arm_begins_where_the_trunk_ends(bare_run, make_row):
    trunk = [make_row(arm="trunk", step=step, value=step / 100) for step in (0, 10, 20)]
    run = read(bare_run([*trunk, make_row(step=30, value=0.7)], trunk_steps=20))
    steps = {lane: [point.step for point in trajectory(run, columns(run)[0], lane)] for lane in run.lanes}
    assert steps == {"trunk": [0, 10, 20], "plain": [20, 30]}


def test_a_mean_is_drawn_at_steps_that_all_seeds_of_the_arm_have(bare_run, make_row):
    """Seed 0 was evaluated at its old end, 45; that of one seed alone would draw a dip."""
    dense = {"eval": "segmentation", "metric": "miou"}
    steps = {0: (40, 45, 60), 1: (40, 60), 2: (40, 60)}
    rows = [make_row(seed=seed, step=step, value=value + (0.1 if seed else -0.1), **kind)
            for kind, value in (({}, 0.5), (dense, 0.3)) for seed, own in steps.items() for step in own]  # fmt: skip
    run = read(bare_run([*rows, make_row(arm="late", seed=1, step=60)]))
    top1, miou = columns(run)
    assert [(at.step, at.seeds) for at in trajectory(run, top1, "plain")] == [(40, 3), (60, 3)]
    assert [at.value for at in trajectory(run, top1, "plain")] == pytest.approx([0.5 + 0.1 / 3] * 2)
    assert [at.step for at in trajectory(run, top1, "late")] == [60]  # its only seed
    assert {seed: [*one] for seed, one in seed_paths(run, top1, "plain").items()} == {s: [*n] for s, n in steps.items()}
    (path,) = paths(run, top1, miou, arm_looks=looks(run.arms, run.baseline))
    assert path.steps.tolist() == [40, 60]
    assert [len(own) for own in path.seeds] == [3, 2, 2]


def test_an_arm_that_forks_from_another_begins_at_its_own_fork(bare_run, make_row):
    rows = [make_row(arm="trunk", step=step, value=step / 100) for step in (0, 20)]
    rows += [make_row(step=step, value=step / 100) for step in (30, 40, 50)] + [
        make_row(arm="late", step=50, value=0.9)
    ]
    jobs = {
        "trunk-s0": {"segment": "0", "start": 0, "stop": 20, "parent": None},
        "plain-s0": {"segment": "0", "start": 20, "stop": 50, "parent": "trunk-s0"},
        "late-s0": {"segment": "0", "start": 40, "stop": 50, "parent": "plain-s0"},
    }
    run = read(bare_run(rows, trunk_steps=20, jobs=jobs))
    found = {lane: [(at.step, at.value) for at in trajectory(run, columns(run)[0], lane)] for lane in run.arms}
    assert found == {"plain": [(20, 0.2), (30, 0.3), (40, 0.4), (50, 0.5)], "late": [(40, 0.4), (50, 0.9)]}
    assert run.forks == (20, 40)


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


def test_the_tidy_table_holds_every_row_once(make_run):
    run = read(make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}}))
    table = measured(run)
    assert len(table) == len(run.rows)
    assert not table.duplicated(["arm", "seed", "step", "eval", "dataset", "metric", "protocol"]).any()
