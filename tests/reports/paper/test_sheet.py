"""What tables for readers hold: which step, which values, which differences, what is said of them."""

import json

import numpy as np
import pytest

from common.records import EQUAL_COMPUTE
from evals.results.table import load
from reports import words
from reports.compared import compare
from reports.estimates import columns, of_column
from reports.paper.sheet import sheets
from reports.run_folder import read

SMALL = {"steps": 40, "trunk_steps": 20, "every": 10}
ARMS = {"plain": {}, "anchored": {"gram.weight": 2.0}}


def cell(sheet, arm, title):
    """The cell of an arm below a title."""
    for grid in sheet.grids:
        for head, own in zip(grid.heads, dict(grid.rows)[arm], strict=True):
            if head.title == title:
                return own
    raise AssertionError(title)


def test_values_are_means_over_seeds_and_differences_those_of_the_report(make_run):
    folder = make_run(arms=ARMS, seeds=(0, 1, 2), **SMALL)
    run = read(folder)
    (sheet,) = sheets(run)
    report = compare(run)
    for column in columns(run):
        found = cell(sheet, "anchored", column.title)
        values = [row.value for row in of_column(run, column) if (row.arm, row.step) == ("anchored", 40)]
        assert len(values) == 3
        assert found.value == words.number(float(np.mean(values)) * words.scale(column), words.digits(column))
        one = report[column, "anchored", "steps"]
        assert f"{found.change} {found.interval}".strip() == words.difference(column, one)
        assert cell(sheet, "plain", column.title).change == ""


def test_the_best_of_each_measure_is_marked_where_lower_is_better_too(make_run):
    folder = make_run(arms=ARMS, **SMALL)
    rows = load(folder / "results.jsonl")
    (sheet,) = sheets(read(folder))
    for title, eval_, metric, take in (
        ("mIoU", "segmentation", "miou", "idxmax"),
        ("Depth RMSE", "depth", "rmse", "idxmin"),
    ):
        own = rows[(rows.step == 40) & (rows["eval"] == eval_) & (rows.metric == metric)].set_index("arm")["value"]
        winner = getattr(own, take)()
        assert {arm: cell(sheet, arm, title).best for arm in ARMS} == {arm: arm == winner for arm in ARMS}


def test_leading_measures_have_the_first_table(make_run):
    (sheet,) = sheets(read(make_run(arms=ARMS, **SMALL)))
    assert [[head.title for head in grid.heads] for grid in sheet.grids] == [
        ["kNN top-1", "Linear top-1", "mIoU", "Depth RMSE"],
        ["Pixel accuracy", "Depth δ1"],
    ]
    assert [head.arrow for head in sheet.grids[0].heads] == ["↑", "↑", "↑", "↓"]


def test_values_are_those_of_the_last_step_that_all_arms_have(make_run):
    arms = {**ARMS, "third": {}, "fourth": {}, "fifth": {}}
    folder = make_run(arms=arms, died=True, **SMALL)
    (sheet,) = sheets(read(folder))
    rows = load(folder / "results.jsonl")
    own = rows[(rows.arm == "plain") & (rows.step == 30) & (rows.metric == "miou")]["value"].item()
    assert sheet.step == 30
    assert cell(sheet, "plain", "mIoU").value == f"{100 * own:.1f}"
    assert cell(sheet, "fifth", "mIoU").value == words.NONE
    assert sheet.missing == [
        "third: failed at step 30 of 40 (step 300: dino_global=nan, ibot=7.1)",
        "fourth: interrupted at step 30 of 40",
        "fifth: not started",
    ]
    assert "After 30 steps, one seed." in sheet.caption


def test_arms_of_equal_compute_are_at_their_own_last_steps(make_run):
    compute = {arm: [{"from": 0, "flops": 1.0}] for arm in ("trunk", *ARMS)}
    folder = make_run(arms=ARMS | {"anchored": {"steps": EQUAL_COMPUTE}}, compute=compute, **SMALL)
    (sheet,) = sheets(read(folder))
    assert sheet.step is None
    assert sheet.caption[0] == "Each arm at its last step, one seed."
    assert "Below: difference from plain, at equal FLOPs." in sheet.caption


def test_arms_that_never_meet_show_their_steps(make_row, bare_run):
    rows = [make_row(arm="plain", step=100), make_row(arm="late", step=300)]
    (sheet,) = sheets(read(bare_run(rows, steps=300)))
    assert sheet.step is None
    assert [cell(sheet, arm, "kNN top-1").spread.partition("@")[2] for arm in ("plain", "late")] == ["100", ""]


def test_one_seed_has_no_word_in_its_cells_and_several_have(make_run):
    (one,) = sheets(read(make_run(name="a", arms=ARMS, **SMALL)))
    (two,) = sheets(read(make_run(name="b", arms=ARMS, seeds=(0, 1), **SMALL)))
    assert cell(one, "anchored", "mIoU").verdict == ""
    assert any("too few for a verdict" in said for said in one.caption)
    assert cell(two, "anchored", "mIoU").verdict in ("better", "worse", "no worse", "undecided")
    assert two.caption[0] == "After 40 steps, mean of 2 seeds."


def test_one_arm_has_values_alone(make_run):
    (sheet,) = sheets(read(make_run(arms={"plain": {}}, **SMALL)))
    found = cell(sheet, "plain", "mIoU")
    assert (found.change, found.best) == ("", False)
    assert not any("difference" in said or "Bold" in said for said in sheet.caption)


def test_an_unknown_metric_is_shown_without_a_side(make_row, bare_run):
    rows = [
        make_row(arm=arm, metric="novelty", eval="mine", value=value) for arm, value in (("plain", 0.2), ("b", 0.3))
    ]
    (sheet,) = sheets(read(bare_run(rows)))
    (head,) = sheet.grids[0].heads
    assert (head.title, head.arrow) == ("Mine novelty", "")
    assert not any(one.best for _, cells in sheet.grids[0].rows for one in cells)


def test_against_another_arm_there_is_another_sheet(make_run):
    first, second = sheets(read(make_run(arms=ARMS, **SMALL)), ["anchored", "anchored", "plain"])
    assert (first.baseline, second.baseline) == ("plain", "anchored")
    assert cell(second, "plain", "mIoU").change
    assert cell(second, "anchored", "mIoU").change == ""
    assert first.label != second.label


@pytest.mark.parametrize("key", ["config", "environment", "steps", "trunk_steps", "notes"])
def test_a_record_that_says_less_gives_a_table_all_the_same(make_run, key):
    folder = make_run(arms=ARMS, **SMALL)
    record = json.loads((folder / "experiment.json").read_text())
    del record[key]
    (folder / "experiment.json").write_text(json.dumps(record))
    assert sheets(read(folder))[0].step == 40
