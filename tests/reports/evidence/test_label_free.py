"""Blocks of a page on label-free measures: what they say, of which runs, and what they refuse."""

from functools import partial

import numpy as np
import pytest

from common.errors import BadInput
from reports.evidence.filled import Filled
from reports.evidence.label_free import alarms, ranks
from reports.evidence.page import fill
from reports.evidence.stored import Shelf
from reports.page import style
from reports.run_folder import read
from reports.tables import tables, write

STEPS = range(100, 900, 100)
FALLS = [0.3, 0.5, 0.6, 0.6, 0.6, 0.58, 0.55, 0.5]
KEEPS = [0.3, 0.4, 0.5, 0.55, 0.56, 0.57, 0.58, 0.59]
SICK = [0.20, 0.21, 0.22, 0.22, 0.15, 0.14, 0.13, 0.12]
WELL = [0.20, 0.21, 0.22, 0.23, 0.24, 0.25, 0.26, 0.27]
TASKS = {"miou": "segmentation", "rmse": "depth", "locality": "health", "norm_outliers": "health"}


ARMS = {"plain": (FALLS, SICK), "anchored": (KEEPS, WELL)}


@pytest.fixture
def judged(make_row):
    """Rows of arms, each with the course of its mIoU and of its locality; outliers are never seen."""
    return partial(_judged, make_row)


def _judged(make_row, **arms):
    draws = np.random.default_rng(0)
    rows = []
    for seed in range(4):
        for arm, (miou, locality) in arms.items():
            miou = np.array(miou) + 0.004 * draws.standard_normal(len(STEPS))
            values = {"miou": miou, "rmse": 1.5 - miou, "locality": locality, "norm_outliers": 0 * miou}
            rows += [
                make_row(arm=arm, seed=seed, step=step, eval=TASKS[metric], metric=metric, value=float(value))
                for metric, curve in values.items()
                for step, value in zip(STEPS, curve, strict=True)
            ]
    return rows


@pytest.fixture
def shelf(bare_run, judged, tmp_path):
    """Tables of an experiment in which plain falls and anchored keeps, and locality knows."""
    write(tables(read(bare_run(judged(**ARMS)))), tmp_path / "tables" / "bare", to="parquet")
    return Shelf(tmp_path / "tables")


def _cells(filled: Filled, *starts):
    """The cells of the row of a table that begins so."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in filled.text.splitlines()]
    return next(line[len(starts) :] for line in lines if tuple(line[: len(starts)]) == starts)


def test_correlations_stand_side_by_side_with_their_intervals_and_the_map_of_all_beside(shelf):
    found = ranks(shelf, ["bare"])
    inside, changes, across = _cells(found, "mIoU ↑", "Locality ↑")
    assert inside.startswith("**+0.")
    assert changes.startswith(("+", "**+"))
    assert across == "−0.20"  # locality differs at five steps, and ranks as mIoU does at the last two; in every seed
    assert _cells(found, "", "Patch-norm outliers ↓") == ["–", "–", "–"]  # told, though it never varies
    assert "8 runs of 4 seeds, from step 1 on" in found.text
    assert "Of 4 intervals about" not in found.text  # less than one
    (name,) = found.figures
    assert f"]({name})" in found.text
    words = {text.get_text() for text in found.figures[name].findobj() if hasattr(text, "get_text")}
    assert {"inside runs", "changes inside runs", "across arms", "Locality", "Depth RMSE"} <= words


def test_the_best_alarm_of_each_measure_is_told_with_what_it_does_where_it_was_not_chosen(shelf):
    found = alarms(shelf, ["bare", "metrics:", "miou"])
    assert "**mIoU** ends at least 5 % below its best in 4 of 8 runs (seeds: 4 of 4)" in found.text
    level, *counts, hits, false, lead = _cells(found, "Locality ↑")
    assert counts == ["4", "0", "0", "4"]
    assert (hits, false) == ("100 [51,\u00a0100]", "0 [0,\u00a049]")
    assert (level, lead) == ("1", "200")  # the first of levels that are raised at the same step
    assert "right in 4 of 4 runs that fall" in found.text
    assert "wrong in 0 of 4 others" in found.text
    assert "RMSE" not in found.text


def test_without_a_fall_no_alarm_is_recommended(shelf):
    found = alarms(shelf, ["bare", "metrics:", "miou", "fall:", "0.9"])
    assert "in 0 of 8 runs" in found.text
    assert "No alarm can be recommended: no run falls" in found.text
    assert _cells(found, "Locality ↑")[:5] == ["5", "0", "0", "4", "4"]


def test_an_experiment_without_which_no_run_falls_is_named_since_its_alarm_was_never_put_to_the_test(
    shelf, judged, bare_run, tmp_path
):
    calm = read(bare_run(judged(plain=(KEEPS, WELL), anchored=(KEEPS, SICK))))
    write(tables(calm), tmp_path / "tables" / "calm", to="parquet")
    found = alarms(shelf, ["bare", "calm", "metrics:", "miou"])
    assert "right in 0 of 4 runs that fall" in found.text
    assert "Without experiment bare the others recommend none, so that none is raised there." in found.text


def test_steps_before_the_first_that_counts_are_left_out(shelf):
    assert "from step 300 on" in ranks(shelf, ["bare", "since:", "300"]).text
    with pytest.raises(BadInput, match="want runs with signs of health"):
        alarms(shelf, ["bare", "since:", "700"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "got no experiment: want one or more; known: bare"),
        (["bare", "metrics:", "mio"], "got metric mio: .* known: segmentation/miou, depth/rmse"),
        (["bare", "metrics:", "bare/miou"], "got metric bare/miou"),
        (["bare", "since:", "soon"], "got since: soon: want one number"),
        (["bare", "since:", "inf"], "got since: inf: want one number"),
        (["bare", "fall:", "5"], "got fall: 5: want one number up to 1"),
        (["bear"], "bear"),
    ],
)
@pytest.mark.parametrize("block", [ranks, alarms])
def test_what_a_block_cannot_know_is_refused_by_name(block, given, said, shelf):
    with pytest.raises(BadInput, match=said):
        block(shelf, given)


def test_a_page_is_filled_with_both(shelf, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("<!-- ranks bare -->\n<!-- end -->\n<!-- alarms bare metrics: miou -->\n<!-- end -->\n")
    with style():
        text, figures = fill(page, shelf)
    assert "](tables/bare/ranks.png)" in text
    assert "Locality ↑" in text
    assert [path.name for path in figures] == ["ranks.png"]
