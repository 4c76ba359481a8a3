"""Each arm against its own beginning: the first evaluation on its way, the trunk's included, beside its last."""

import pytest

from reports import words
from reports.estimates import columns
from reports.page import INK, looks, style
from reports.run_folder import read
from reports.since_pages import since_pages
from reports.since_start import baseline_change, changes, ends, side
from reports.twin.tables import since
from reports.verdict_pages import COLOURS


def test_a_change_is_that_of_the_same_seeds_from_the_first_evaluation_to_the_last(bare_run, make_row):
    start, end = {0: 0.5, 1: 0.6, 2: 0.7}, {0: 0.4, 1: 0.52, 2: 0.58}  # changes of -0.10, -0.08, -0.12
    middle = [make_row(seed=seed, step=20, value=0.9) for seed in start]
    rows = [*middle, *(make_row(seed=seed, step=40, value=value) for seed, value in end.items())]
    run = read(bare_run([*(make_row(seed=seed, step=0, value=value) for seed, value in start.items()), *rows]))
    (one,) = changes(run, columns(run), run.arms).values()
    assert (one.value, one.baseline, one.baseline_step, one.step) == (pytest.approx(-0.1), pytest.approx(0.6), 0, 40)
    half = 4.302653 * 0.02 / 3**0.5  # Student's t over the three changes, not over the values
    assert (one.low, one.high) == (pytest.approx(-0.1 - half, abs=1e-6), pytest.approx(-0.1 + half, abs=1e-6))
    assert ends(one) == "60.0 → 50.0"
    said = baseline_change(run).replace(words.JOIN, " ")
    assert said == "plain against its own start, step 0 to 40: kNN top-1 −10.0 points [−15.0, −5.0]"


def test_an_arm_that_forks_began_where_the_trunk_did(make_run):
    run = read(make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}, "anchored": {"gram.weight": 2.0}}))
    found = changes(run, words.leading(run), run.arms)
    assert {(arm, one.baseline_step, one.step) for (_, arm), one in found.items()} == {
        ("plain", 0, 40),
        ("anchored", 0, 40),
    }
    with style():
        (page,) = since_pages(run, looks(run.arms, run.baseline))
    texts = [text.get_text() for text in page.figure.texts]
    assert [text for text in texts if text in run.arms] == [*run.arms]
    assert texts.count("0, 40") == 2


@pytest.mark.parametrize(
    ("metric", "evaluation", "end", "said"),
    [
        ("miou", "segmentation", 0.6, "better"),
        ("rmse", "depth", 0.6, "worse"),
        ("rmse", "depth", 0.4, "better"),
        ("miou", "segmentation", 0.501, ""),  # within what seeds scatter
        ("locality", "health", 0.4, ""),
    ],
)
def test_page_and_browser_say_better_or_worse_but_not_of_noise_or_of_a_sign_of_health(
    bare_run, make_row, metric, evaluation, end, said
):
    kind = {"eval": evaluation, "metric": metric}
    rows = [make_row(**kind, seed=seed, step=0, value=0.5) for seed in (0, 1, 2)]
    rows += [make_row(**kind, seed=seed, step=40, value=end + 0.002 * seed) for seed in (0, 1, 2)]
    run = read(bare_run(rows))
    (one,) = changes(run, columns(run), run.arms).values()
    assert side(one) == said
    (line,) = since(run).lines
    assert (line.cells[0].text, line.cells[2].below) == ("plain", ends(one))
    assert line.cells[2].tone == {"better": "good", "worse": "bad", "": ""}[said]
    with style():
        (page,) = since_pages(run, looks(run.arms, run.baseline))
    (text,) = [text for text in page.figure.texts if text.get_text() == line.cells[2].text]
    assert text.get_color() == COLOURS.get(said, INK)


def test_what_was_evaluated_once_has_no_change(bare_run, make_row):
    run = read(bare_run([make_row()]))
    assert changes(run, columns(run), run.arms) == {}
    assert baseline_change(run) == ""
    with style():
        assert since_pages(run, looks(run.arms, run.baseline)) == []
