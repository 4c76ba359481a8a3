from dataclasses import replace

import pytest

from reports import words
from reports.cautions import cautions
from reports.compared import compare
from reports.compute_pages import compute_pages
from reports.estimates import Column, Estimate
from reports.page import looks, style
from reports.run_folder import read
from reports.verdict_pages import verdict_pages

MIOU = Column("segmentation", "scenes", "val", "miou", "quick-v1", "aa", 64)
RMSE = Column("depth", "scenes", "val", "rmse", "quick-v1", "aa", 64)
NAN = float("nan")


def _plain(text):
    return text.replace("\u00a0", " ").replace("\u2212", "-")


def test_shares_are_compared_in_points_and_depth_in_metres():
    assert _plain(words.change(MIOU, Estimate(0.031, 0.019, 0.042, 400, 1, "images"))) == "+3.1 points [+1.9, +4.2]"
    assert _plain(words.change(RMSE, Estimate(-0.0412, -0.05, 0.01, 400, 3, "seeds"))) == "-0.041 m [-0.050, +0.010]"
    assert _plain(words.change(MIOU, Estimate(-0.004, NAN, NAN, 400, 1, ""))) == "-0.4 points"


def test_a_tiny_difference_that_is_told_from_zero_has_the_digits_that_show_it():
    tiny = Estimate(0.00004, 0.00001, 0.00007, 400, 3, "seeds and images")
    assert _plain(words.change(MIOU, tiny)) == "+0.004 points [+0.001, +0.007]"
    assert _plain(words.change(MIOU, replace(tiny, low=-0.00001))) == "0.0 points [0.0, 0.0]"


@pytest.mark.parametrize(("value", "text"), [(-0.00001, "0.0"), (0.25, "+0.2"), (-1.26, "-1.3"), (NAN, "\u2013")])
def test_a_number_that_rounds_to_zero_has_no_sign(value, text):
    assert _plain(words.number(value, 1, signed=True)) == text


@pytest.mark.parametrize(("seconds", "text"), [(None, "\u2013"), (48, "48 s"), (720, "12 min"), (12000, "3 h 20 min")])
def test_durations_are_read_at_a_glance(seconds, text):
    assert words.span(seconds) == text


def test_the_headline_states_step_and_both_sides_of_the_trade_off(bare_run, make_row):
    dense = {"eval": "segmentation", "metric": "miou"}
    rows = [make_row(step=400, value=0.50), make_row(step=400, arm="anchored", value=0.496)]
    rows += [make_row(step=400, value=0.30, **dense), make_row(step=400, arm="anchored", value=0.331, **dense)]
    run = read(bare_run(rows))
    said = [_plain(sentence) for sentence in words.headline(run, compare(run))]
    assert said == ["anchored vs plain at step 400: mIoU +3.1 points; kNN top-1 -0.4 points"]
    assert "No interval" in words.interval_note(run, compare(run))


UNLIKE = {
    "jobs": {f"{arm}-s0": {"segment": arm, "start": 0, "stop": stop, "parent": None}
             for arm, stop in (("plain", 40), ("short", 30))},
    "compute": {"plain": [{"from": 0, "flops": 3e9}], "short": [{"from": 0, "flops": 4e9}]},
}  # fmt: skip


def test_an_arm_without_a_step_of_the_baseline_is_told_of_at_equal_flops_and_not_cut_first(bare_run, make_row):
    arms = ("plain", "other", "third", "fourth")
    rows = [make_row(step=40, arm=arm, value=0.5 + 0.01 * n) for n, arm in enumerate(arms)]
    run = read(bare_run([*rows, make_row(step=30, arm="short", value=0.56)], **UNLIKE))
    found = compare(run)
    said = [_plain(sentence) for sentence in words.headline(run, found)]
    assert said[0] == "other vs plain at step 40: kNN top-1 +1.0 points"
    assert said[3] == "short vs plain, no equal step, at equal FLOPs (120 GFLOP; steps 30, 40): kNN top-1 +6.0 points"
    few = [_plain(sentence) for sentence in words.headline(run, found, most=3)]
    assert few == [said[0], "and 2 more in the table", said[3]]


def test_metrics_of_more_arms_than_a_page_holds_follow_one_another(bare_run, make_row):
    arms = ["plain", *(f"arm-{number}" for number in range(40))]
    depth = {"eval": "depth", "metric": "rmse"}
    rows = [make_row(step=40, arm=arm, **kind) for kind in ({}, depth) for arm in arms]
    run = read(bare_run(rows))
    with style():
        first, second, third = verdict_pages(run, compare(run), looks(run.arms, run.baseline))
        texts = [[text.get_text() for text in page.figure.texts] for page in (first, second, third)]
    assert [sum("top-1" in text for text in page) for page in texts] == [1, 1, 0]
    assert [sum("RMSE" in text for text in page) for page in texts] == [0, 1, 1]
    assert sum(text.startswith("arm-") for page in texts for text in page) == 80


def test_a_phase_after_the_baseline_is_told_of_at_the_end_of_each(bare_run, make_row):
    jobs = {
        "plain-s0": {"segment": "0", "start": 0, "stop": 40, "parent": None},
        "later-s0": {"segment": "1", "start": 40, "stop": 60, "parent": "plain-s0"},
    }
    compute = {arm: [{"from": 0, "flops": 3e9}] for arm in ("plain", "later")}
    rows = [make_row(step=40, value=0.5), make_row(step=60, arm="later", value=0.56)]
    run = read(bare_run(rows, jobs=jobs, compute=compute))
    found, arm_looks = compare(run), looks(run.arms, run.baseline)
    said = [_plain(sentence) for sentence in words.headline(run, found)]
    assert said == ["later vs plain, no equal step, at the end of each (steps 60, 40): kNN top-1 +6.0 points"]
    with style():
        for (page,) in (verdict_pages(run, found, arm_looks), compute_pages(run, found, arm_looks)):
            assert "the end of each" in " ".join(text.get_text() for text in page.figure.texts).replace("\n", " ")


def test_every_arm_that_can_be_compared_is_on_both_pages_of_differences(bare_run, make_row):
    rows = [make_row(step=40), make_row(step=40, arm="other"), make_row(step=30, arm="short", value=0.56)]
    run = read(bare_run(rows, **UNLIKE))
    found, arm_looks = compare(run), looks(run.arms, run.baseline)
    with style():
        for (page,), where in (
            (verdict_pages(run, found, arm_looks), "at equal FLOPs (120 GFLOP; steps 30, 40)"),
            (compute_pages(run, found, arm_looks), "none in common"),
        ):
            texts = [text.get_text() for text in page.figure.texts]
            assert {"other", "short", "+6.0"} <= {word for text in texts for word in text.split()}
            assert [text for text in texts if text.startswith(where)]


def test_what_was_trained_stands_below_the_question_and_names_the_arms_that_differ(bare_run, make_row):
    narrow, wide, rooms = "model nano: 0.47 M weights", "model nano: 1.9 M weights", "training source rooms: 24 images"
    arms = {"plain": [narrow, rooms], "other": [narrow, rooms], "wide": [wide, rooms]}
    run = read(bare_run([make_row()], trained=arms, source="Paper, §4"))
    told = f"{narrow}; arms plain, other · {rooms} · {wide}; arms wide"
    assert words.asked(run) == [("Source", "Paper, §4"), ("Trained", told)]
    assert words.asked(read(bare_run([make_row()], source="Paper, §4"))) == [("Source", "Paper, §4")]


def test_one_seed_is_always_a_caution(bare_run, make_row):
    assert any("One seed" in note for note in cautions(read(bare_run([make_row()]))))


def test_two_seeds_are_a_caution_of_their_own_and_three_are_none(bare_run, make_row):
    two = [make_row(), make_row(seed=1)]
    assert cautions(read(bare_run(two)))[0].startswith("Two seeds: intervals of 95 %")
    assert cautions(read(bare_run([*two, make_row(seed=2)]))) == []


def test_sets_of_few_images_are_a_caution(bare_run, make_row):
    rows = [make_row(seed=seed, dataset=name, images=images) for seed in (0, 1, 2)
            for name, images in (("rooms", 8), ("streets", 49), ("photos", 50))]  # fmt: skip
    said = "Fewer than 50 evaluation images make intervals unreliable: 8 of rooms, 49 of streets."
    assert cautions(read(bare_run(rows))) == [said]


def test_values_that_are_missing_or_not_finite_are_named(bare_run, make_row):
    rows = [make_row(), make_row(eval="linear"), make_row(arm="anchored", value=float("nan")), make_row(arm="stranger")]
    run = read(bare_run(rows, arms={"plain": {}, "anchored": {}}))
    said = " | ".join(words.incomplete(run))
    assert "anchored: kNN top-1 on scenes (quick-v1) is not a finite number at step 100" in said
    assert "anchored: Linear top-1 on scenes (quick-v1) was not measured" in said
    assert "stranger" in said


def test_what_arms_have_in_common_stands_in_the_head_of_their_metric_and_what_is_unlike_beside_its_arm(
    bare_run, make_row
):
    rows = [make_row(step=40), make_row(step=40, arm="other"), make_row(step=40, arm="third")]
    run = read(bare_run([*rows, make_row(step=30), make_row(step=30, arm="early")]))
    with style():
        (page,) = verdict_pages(run, compare(run), looks(run.arms, run.baseline))
    texts = [text.get_text() for text in page.figure.texts]
    assert [text for text in texts if "step 40" in text] == ["verdict, at step 40"]
    assert [text for text in texts if text.startswith("at step 30")]


def test_the_weights_that_training_began_with_are_told_first(bare_run, make_row):
    config = {"trunk": {"checkpoint": "trunks/anchored.safetensors"}}
    run = read(bare_run([make_row()], config=config, trained={"plain": ["model nano: 0.45 M weights"]}))
    said = dict(words.asked(run))["Trained"]
    assert said == "begins from the weights trunks/anchored.safetensors · model nano: 0.45 M weights"
