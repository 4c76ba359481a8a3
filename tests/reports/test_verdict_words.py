"""What is said beside a verdict, and at the end of a run."""

import math
from dataclasses import replace

import pandas as pd
import pytest

from evals.results.verdicts import Verdict
from reports.build import build
from reports.compared import Difference, compare
from reports.estimates import Column
from reports.page import looks, style
from reports.run_folder import read
from reports.verdict_pages import verdict_pages
from reports.verdict_words import note, word
from reports.words import interval_note, margin

MIOU = Column("segmentation", "scenes", "val", "miou", "quick-v1", "aa", 64)
VERDICT = Verdict("undecided", 0.01, 0.2, 0.2, comparisons=4, seeds_needed=7)
SEEN = Difference(
    0.01, 0.001, 0.02, 400, 3, "seeds and images", MIOU, "anchored", "steps", 400, 0.4, 400, verdict=VERDICT
)
TWO = {"plain": {}, "anchored": {"gram.weight": 2.0, "gram.start_step": 20}}
SMALL = {"steps": 40, "trunk_steps": 20, "every": 10, "arms": TWO}


def said(one=SEEN, **changes):
    return note(replace(one, verdict=replace(VERDICT, **changes)))


def test_an_undecided_arm_says_what_it_would_take():
    crossing = replace(SEEN, low=-0.02)
    assert said(crossing) == "would take about 4 more seeds"
    assert said(crossing, seeds_needed=4) == "would take about 1 more seed"
    assert said(crossing, seeds_needed=1001) == "would take more than 1000 more seeds"
    assert said(crossing, seeds_needed=math.inf) == "more seeds cannot decide it: the images limit it"


def test_where_interval_and_word_seem_to_disagree_the_correction_is_named():
    assert said().startswith("the interval leaves out zero, but not after correction for 4 comparisons (Holm)")
    within = replace(SEEN, low=-0.005)
    assert said(within).startswith("the interval keeps the margin, but not after correction for 4 comparisons (Holm)")
    assert said(word="no worse than the margin", seeds_needed=None).startswith("the interval leaves out zero")
    assert "Holm" not in said(comparisons=1)


def test_where_nothing_spreads_that_is_the_reason_and_not_the_correction():
    still = replace(SEEN, value=0.0, low=0.0, high=0.0)
    reason = said(still, seeds_needed=None, has_spread=False)
    assert "nothing tells how far chance could have gone; more evaluation images or seeds would" in reason
    assert "Holm" not in reason


def test_a_loss_that_was_shown_to_be_small_is_called_so():
    assert said(word="worse", p_no_worse=0.001, seeds_needed=None) == "by less than the margin"
    assert said(word="worse", p_no_worse=0.5, seeds_needed=None) == ""


def test_without_a_verdict_the_reason_is_given():
    assert (word(replace(SEEN, verdict=None)), note(replace(SEEN, verdict=None))) == ("neither good nor bad", "")
    bare = replace(SEEN, verdict=None, over="seeds")
    assert (word(bare), note(bare)) == ("no verdict", "no outcomes of images kept")


def test_margins_are_written_in_points_and_fine_ones_in_tenths():
    assert margin(SEEN).replace("\u00a0", " ") == "1.0 points"
    fine = replace(SEEN, verdict=replace(VERDICT, margin=0.0005))
    assert margin(fine).replace("\u00a0", " ") == "0.05 points"
    assert margin(replace(SEEN, verdict=replace(VERDICT, margin=0.0))) == "\u2013"


@pytest.mark.slow
def test_no_page_says_that_no_difference_was_seen(make_run):
    lines: list[str] = []
    folder = make_run(seeds=(0, 1, 2), outcomes=2, **SMALL)
    build(folder, tell=lines.append)
    table = pd.read_csv(folder / "verdicts.csv")
    assert set(table["verdict"]) <= {"better", "worse", "no worse than the margin", "undecided"}
    assert lines[0].startswith("anchored vs plain at step 40: mIoU ")
    assert any("intervals over 3 seeds and the evaluation images" in line for line in lines)
    assert not any("difference" in line and "no " in line for line in lines)


@pytest.mark.slow
def test_the_table_for_machines_holds_every_arm_metric_and_kind_of_equality(make_run):
    compute = {arm: [{"from": 0, "flops": 2.0 if arm == "anchored" else 1.0}] for arm in ("trunk", *TWO)}
    folder = make_run(seeds=(0, 1, 2), compute=compute, outcomes=2, **SMALL)
    build(folder)
    table = pd.read_csv(folder / "verdicts.csv").set_index(["eval", "metric", "at"])
    assert len(table) == 6 * 4
    flops = table.loc["segmentation", "miou", "flops"]
    assert (flops["arm"], flops["baseline"], flops["step"], flops["baseline_step"]) == ("anchored", "plain", 30, 40)
    assert flops["low"] < flops["difference"] < flops["high"]
    steps = table.loc["segmentation", "miou", "steps"]
    assert (steps["over"], steps["comparisons"], steps["margin"], steps["seeds"]) == ("seeds and images", 1, 0.01, 3)


def test_arms_that_are_one_training_are_one_comparison_and_none_with_themselves(make_run):
    """As the record's segments tell; the caption of the page counts the comparisons too."""
    arms = {
        "plain": {},
        "again": {},
        "anchored": TWO["anchored"],
        "twin": TWO["anchored"],
        "late": {"gram.weight": 1.0},
    }
    parts = {"trunk": ("aa", 0, 20), "plain": ("aa", 20, 40), "again": ("aa", 20, 40), "anchored": ("bb", 20, 40)}
    parts |= {"twin": ("bb", 20, 40), "late": ("cc", 20, 40)}
    jobs = {
        f"{arm}-s{seed}": {"segment": f"{part}{seed}", "start": start, "stop": stop, "parent": None}
        for arm, (part, start, stop) in parts.items()
        for seed in (0, 1, 2)
    }
    run = read(make_run(seeds=(0, 1, 2), jobs=jobs, **{**SMALL, "arms": arms}))
    compared = compare(run)
    judged = {key[1]: one for key, one in compared.items() if key[0].metric == "miou" and key[2] == "steps"}
    assert {one.verdict.comparisons for one in judged.values() if one.verdict} == {2}
    assert note(judged["again"]) == "the same training as the baseline's"
    with style():
        first = verdict_pages(run, compared, looks(run.arms, run.baseline))[0]
    said = " ".join(text.get_text() for text in first.figure.texts)
    assert "over the 2 comparisons of a metric (Holm)" in " ".join(said.split())
    assert "Words: corrected over 2 comparisons of a metric (Holm)" in interval_note(run, compared)


@pytest.mark.slow
def test_one_seed_is_never_given_a_verdict(make_run):
    folder = make_run(**SMALL)
    lines: list[str] = []
    build(folder, tell=lines.append)
    assert set(pd.read_csv(folder / "verdicts.csv")["verdict"]) == {"too few seeds"}
    assert "One seed is too few for a verdict." in lines[-1]
