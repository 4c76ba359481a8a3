"""The trade-off pages: which evaluations are at the front, and what each arm's path is drawn with."""

import json

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from reports.estimates import primary
from reports.events import FRONT
from reports.page import Look, looks, style
from reports.paths import Path, best_of, paths
from reports.run_folder import read
from reports.tradeoff import CROSSES_UP_TO, shades, tradeoff_page
from reports.tradeoff_grid import tradeoff_grid_pages

LOOK = Look("#0072B2", "-", "o")


def _columns(run):
    return primary(run, "global"), primary(run, "dense")


def _run(bare_run, make_row, arms, *, dense=("segmentation", "miou"), seeds=(0,)):
    """Arms whose two measures move apart from one another, at three steps."""
    rows = []
    for number, arm in enumerate(arms):
        for seed in seeds:
            for step in (100, 200, 300):
                value = 0.5 + 0.01 * number + step / 10_000 + 0.004 * seed
                other = 0.5 - 0.012 * number + step / 20_000
                for name, metric, one in (("knn", "top1", value), (*dense, other)):
                    where = {"eval": name, "metric": metric, "arm": arm, "seed": seed, "step": step}
                    rows.append(make_row(value=one, low=one - 0.02, high=one + 0.03, **where))
    return read(bare_run(rows, steps=300))


@pytest.mark.parametrize("dense", [("segmentation", "miou"), ("depth", "rmse")])
def test_at_the_front_are_the_evaluations_that_no_other_equals_or_beats_in_both(bare_run, make_row, dense):
    across, up = _columns(_run(bare_run, make_row, ["plain"], dense=dense))
    sign = 1 if up.kind.higher_is_better else -1
    rng = np.random.default_rng(0)
    for _ in range(20):
        points = rng.integers(0, 6, (12, 2)).astype(float)
        found = best_of([Path("plain", LOOK, points, np.arange(12), np.zeros((12, 2, 2)), [])], across, up)
        beaten = [any(x >= a and sign * y >= sign * b and (x, y) != (a, b) for x, y in points) for a, b in points]
        kept = {tuple(point) for point, lost in zip(points, beaten, strict=True) if not lost}
        assert [tuple(point) for point in found] == sorted(kept)


def test_the_front_is_a_stair_through_its_evaluations(bare_run, make_row):
    run = _run(bare_run, make_row, ["plain", "anchored", "third"])
    with style():
        page = tradeoff_page(run, looks(run.arms, run.baseline))
    (stair,) = (line for line in page.figure.axes[0].lines if line.get_linewidth() == FRONT["linewidth"])
    ways = paths(run, *_columns(run), arm_looks=looks(run.arms, run.baseline))
    assert stair.get_xydata() == pytest.approx(best_of(ways, *_columns(run)))
    assert any("Pareto front" in text.get_text() for axes in page.figure.axes for text in axes.texts)


def test_marks_darken_with_the_step_to_the_arms_own_colour():
    early, late = shades("#0072B2", np.array([0, 300]), 300)
    assert early.min() > late.min()
    assert late == pytest.approx([0x00 / 255, 0x72 / 255, 0xB2 / 255])


def _crosses(axes, points, half_low, half_high):
    """The horizontal intervals among the lines of a panel, by where they lie."""
    flat = [line for line in axes.lines if len(line.get_xdata()) == 2 and np.ptp(line.get_ydata()) == 0]
    found = {round(float(line.get_ydata()[0]), 6): line.get_xdata() for line in flat}
    for x, y in points:
        assert found[round(float(y), 6)] == pytest.approx([x - half_low, x + half_high])


def test_few_arms_have_their_intervals_along_their_paths(bare_run, make_row):
    run = _run(bare_run, make_row, ["plain", "anchored"])
    with style():
        page = tradeoff_page(run, looks(run.arms, run.baseline))
        assert tradeoff_grid_pages(run, looks(run.arms, run.baseline)) == []
    for way in paths(run, *_columns(run), arm_looks=looks(run.arms, run.baseline)):
        _crosses(page.figure.axes[0], way.points, 2.0, 3.0)


def test_of_more_arms_each_has_a_panel_with_its_path_its_intervals_and_the_others_behind(bare_run, make_row):
    arms = ["plain", *(f"arm{number}" for number in range(CROSSES_UP_TO))]
    run = _run(bare_run, make_row, arms)
    arm_looks = looks(run.arms, run.baseline)
    with style():
        (page,) = tradeoff_grid_pages(run, arm_looks)
    panels = {axes.get_title(loc="left"): axes for axes in page.figure.axes if axes.get_title(loc="left")}
    assert [*panels] == arms
    for way in paths(run, *_columns(run), arm_looks=arm_looks):
        axes = panels[way.lane]
        (pieces,) = (one for one in axes.collections if isinstance(one, LineCollection))
        assert np.array([piece[0] for piece in pieces.get_segments()]) == pytest.approx(way.points[:-1])
        assert len({tuple(colour) for colour in pieces.get_colors()}) == len(way.steps) - 1
        _crosses(axes, way.points, 2.0, 3.0)
        assert sum(line.get_color() == "#dddddd" for line in axes.lines) == len(arms) - 1


def test_an_alarm_is_marked_where_it_was_raised(bare_run, make_row):
    run = _run(bare_run, make_row, ["plain", "alarm"])
    record = json.loads((run.folder / "experiment.json").read_text()) | {"events": {"plain": [], "alarm": []}}
    (run.folder / "experiment.json").write_text(json.dumps(record))
    (lane := run.folder / "alarm-s0").mkdir()
    (lane / "dense.jsonl").write_text(json.dumps({"step": 250, "kind": "gram_start"}) + "\n")
    run = read(run.folder)
    with style():
        page = tradeoff_page(run, looks(run.arms, run.baseline))
    way = paths(run, *_columns(run), arm_looks=looks(run.arms, run.baseline))[1]
    marks = [line.get_xydata()[0] for line in page.figure.axes[0].lines if line.get_marker() == "^"]
    assert [way.at(250)] == [pytest.approx(mark) for mark in marks if mark[1] != way.points[-1, 1]]
    assert any(text.get_text() == "alarm raised" for axes in page.figure.axes for text in axes.texts)
