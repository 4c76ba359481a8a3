"""What is back of a loss: by hand, against Student's t, and what is no loss."""

import json
from functools import partial

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from reports.evidence.changes import change, regained, share_back
from reports.evidence.stored import Shelf
from reports.run_folder import read
from reports.tables import tables, write


def test_the_share_is_one_of_means_with_students_interval_over_what_exceeds_it():
    # lost 0.10, 0.06, 0.14; back 0.05, 0.05, 0.02: together 0.12 of 0.30
    values = np.array([[0.6, 0.5, 0.55], [0.6, 0.54, 0.59], [0.6, 0.46, 0.48]])
    found = share_back(values)
    assert found.value == pytest.approx(0.4)
    beyond = [0.05 - 0.4 * 0.10, 0.05 - 0.4 * 0.06, 0.02 - 0.4 * 0.14]
    oracle = ttest_1samp([0.4 + one / 0.1 for one in beyond], 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Losses of 0.06 with a spread of 0.01, three tenths of them back, values measured with an error of 0.005."""
    rng, truth, held = np.random.default_rng(0), 0.3, 0
    for _ in range(2000):
        lost = rng.normal(0.06, 0.01, 5)
        values = np.stack([np.zeros(5), -lost, -lost * (1 - truth)], axis=1) + rng.normal(0, 0.005, (5, 3))
        found = share_back(values)
        held += found.low <= truth <= found.high
    assert 0.93 <= held / 2000 <= 0.97


def test_where_lower_is_better_the_share_is_the_same():
    values = np.random.default_rng(1).random((4, 3))
    assert share_back(1 - values).value == pytest.approx(share_back(values).value)


@pytest.fixture
def shelf_of(make_run, make_row, tmp_path):
    return partial(_shelf_of, make_run, make_row, tmp_path)


def _shelf_of(make_run, make_row, tmp_path, *seeds):
    """Arm `lost` falls from 0.6 to 0.5 and has 0.55 in the end, in RMSE the other way round; `won` only rises."""
    folder = make_run(seeds=seeds, arms={"lost": {}, "won": {}}, steps=30, trunk_steps=0, every=10)
    ways = {"lost": (0.6, 0.5, 0.55), "won": (0.5, 0.6, 0.7)}
    rows = [
        vars(make_row(run=folder.name, arm=arm, seed=seed, step=10 * place, eval=task, metric=metric,
                      value=(value if metric == "miou" else 1 - value) + 0.001 * seed * place))
        for arm, way in ways.items() for seed in seeds for place, value in enumerate(way, 1)
        for task, metric in (("segmentation", "miou"), ("depth", "rmse"))
    ]  # fmt: skip
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write(tables(read(folder)), tmp_path / "tables" / folder.name, to="parquet")
    return Shelf(tmp_path / "tables")


def test_a_share_is_told_where_a_loss_is_shown_and_nowhere_else(shelf_of):
    text = regained(shelf_of(0, 1), ["gram_ablation", "10", "20", "30", "miou", "rmse"]).text
    lost, won = (line for line in text.splitlines() if line.startswith("| `"))
    assert [cell.split("[")[0].strip() for cell in lost.split("|")[2:4]] == ["51", "49"]
    assert won == "| `won` | \u2013 | \u2013 |"
    assert "What is back at step 30 of the loss between steps 10 and 20" in text


def test_one_seed_has_shares_and_changes_without_an_interval(shelf_of):
    shelf = shelf_of(0)
    text = regained(shelf, ["gram_ablation", "10", "20", "30", "miou", "rmse"]).text
    assert "| `lost` | 50 | 50 |" in text
    assert "| `won` | \u2013 | \u2013 |" in text
    assert text.endswith("; 1 seed, so no interval.")
    text = change(shelf, ["gram_ablation", "10", "20", "miou", "rmse"]).text
    assert "| `lost` | \u221210.0 | +0.100 |" in text
    assert text.endswith("mean of 1 seed, so no interval.")
