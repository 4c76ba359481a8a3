import json

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from common.drawing import make_drawable
from common.timeline import Curve, Timeline, write_timeline
from reports import provenance
from reports.batches import batch_pages, realised
from reports.compared import compare
from reports.curves import metric_pages
from reports.events import MOST_UPDATES
from reports.figures import render
from reports.front_page import front_pages
from reports.losses import loss_pages, smooth, titles
from reports.page import looks, style
from reports.parts import Line
from reports.run_folder import read
from reports.tradeoff import tradeoff_page

pytestmark = pytest.mark.slow  # whole reports, drawn and measured


def _texts(page):
    """Every written text of a page with its box in pixels."""
    canvas = FigureCanvasAgg(page.figure)
    canvas.draw()
    written = list(page.figure.texts)
    for axes in page.figure.axes:
        written += [*axes.texts, axes.title, axes._right_title, axes._left_title, axes.xaxis.label, axes.yaxis.label]
    return [(text.get_text(), text.get_window_extent()) for text in written if text.get_text().strip()]


LONG = {
    f"a_rather_long_arm_name_number_{n}_with_updates": {"gram.weight": float(n), "gram.start_step": 40}
    for n in range(8)
}


@pytest.mark.parametrize("arms", [None, LONG], ids=["ablation", "eight long names"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one seed", "two seeds"])
def test_no_text_leaves_the_sheet(make_run, arms, seeds):
    with style():
        run = read(make_run(steps=40, trunk_steps=20, every=10, arms=arms, seeds=seeds, died=True))
        for page in render(run, compare(run)):
            width, height = page.figure.bbox.size
            for text, box in _texts(page):
                assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0, text


NAMES = ["photos", "rooms/a rather long name of a component that nobody would write", "x$y_1", "streets", "fifth"]


def test_each_component_has_a_row_of_panels_and_nothing_leaves_the_sheet(make_run):
    with style():
        run = read(make_run(steps=220, trunk_steps=200, every=20, components=NAMES))
        pages = batch_pages(run, looks(run.arms, run.baseline))
        assert [len(page.figure.axes) for page in pages] == [4 * 4, 1 * 4]
        written = [(text, box) for page in pages for text, box in _texts(page)]
        width, height = pages[0].figure.bbox.size
        for text, box in written:
            assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0, text
        titles_ = [text for text, _ in written]
        assert {"photos", "streets", "fifth", "DINO, global crops", "iBOT", "Gram"} <= set(titles_)
        panels = [len(page.figure.axes) for page in loss_pages(run, looks(run.arms, run.baseline))]
    with style():
        plain = read(make_run(name="none", steps=220, trunk_steps=200, every=20))
        assert batch_pages(plain, looks(plain.arms, plain.baseline)) == []
        assert panels == [len(page.figure.axes) for page in loss_pages(plain, looks(plain.arms, plain.baseline))]


def test_the_legend_of_components_names_those_alone_that_tell_them_apart(make_run):
    folder = make_run(steps=40, trunk_steps=20, every=20, components=NAMES)
    for path in folder.glob("*/metrics.jsonl"):
        if not path.parent.name.startswith("homogeneous"):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            left = [{name: value for name, value in row.items() if "components/" not in name} for row in rows]
            path.write_text("".join(f"{json.dumps(row)}\n" for row in left))
    with style():
        run = read(folder)
        written = [text for page in batch_pages(run, looks(run.arms, run.baseline)) for text, _ in _texts(page)]
    assert {*run.lanes, "trunk (shared)"} & {*written} == {"homogeneous"}


def test_the_realised_share_is_that_of_all_images_since_the_lanes_first_step():
    since = Line(np.array([4.0, 8.0, 10.0]), np.array([0.5, 0.0, 1.0]))
    assert realised(since, 0).values.tolist() == pytest.approx([0.5, 0.25, 0.4])
    later = realised(Line(since.steps + 100, since.values), 100)
    assert later.values.tolist() == pytest.approx([0.5, 0.25, 0.4])


def test_a_subtitle_of_two_lines_stands_clear_of_the_legend(make_run):
    with style():
        run = read(make_run(steps=40, trunk_steps=20, every=10, seeds=(0, 1)))
        page = metric_pages(run, looks(run.arms, run.baseline))[0]
        boxes = dict(_texts(page))
    subtitle = [box for text, box in boxes.items() if "Gram teacher renewed" in text]
    assert boxes["plain"].y1 + 0.03 * page.figure.dpi < min(box.y0 for box in subtitle)


def test_names_at_the_ends_of_the_paths_do_not_overlap(ablation):
    with style():
        run = read(ablation)
        page = tradeoff_page(run, looks(run.arms, run.baseline))
        main = page.figure.axes[0]
        FigureCanvasAgg(page.figure).draw()
        boxes = [text.get_window_extent() for text in main.texts if text.get_text() in run.arms]
    assert len(boxes) == len(run.arms)
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])


def test_wide_intervals_of_two_seeds_leave_the_curves_their_height(make_run):
    arms = {"plain": {}, "anchored": {"gram.weight": 2.0, "gram.start_step": 200}}
    with style():
        run = read(make_run(arms=arms, seeds=(0, 1)))
        axes = metric_pages(run, looks(run.arms, run.baseline))[0].figure.axes[0]
    values = np.concatenate([line.get_ydata() for line in axes.lines if len(line.get_xdata()) > 3])
    low, high = axes.get_ylim()
    assert np.ptp(values) > 0.28 * (high - low)  # once above them, once below, and air


def test_every_set_has_its_own_line_of_chance(bare_run, make_row):
    rows = [make_row(dataset=name, value=0.3, step=step) for name in ("photos", "rooms") for step in (0, 9)]
    rows += [make_row(dataset=name, value=0.5, step=10) for name in ("photos", "rooms")]
    run = read(bare_run(rows, chance={"photos/top1": 0.25, "rooms/top1": 0.2}))
    with style():
        panels = metric_pages(run, looks(run.arms, run.baseline))[0].figure.axes
    written = [[text.get_position()[1] for text in axes.texts if text.get_text() == "chance"] for axes in panels]
    assert written == [[25.0], [20.0]]


def test_many_renewals_of_the_teacher_are_thinned_and_the_key_says_so(make_run):
    often = {"plain": {}, "renewed": {"gram.weight": 2.0, "gram.start_step": 200, "gram.update_every": 2}}
    seldom = {"plain": {}, "renewed": {"gram.weight": 2.0, "gram.start_step": 200, "gram.update_every": 100}}
    with style():
        found = []
        for name, arms in (("often", often), ("seldom", seldom)):
            run = read(make_run(name=name, arms=arms))
            found.append(tradeoff_page(run, looks(run.arms, run.baseline)))
    marks = [sum(line.get_marker() == "d" for line in page.figure.axes[0].lines) for page in found]
    said = [any("not every time" in text for text, _ in _texts(page)) for page in found]
    assert 2 <= marks[0] <= MOST_UPDATES
    assert marks[1] == 1
    assert said == [True, False]


def test_names_in_letters_that_the_font_lacks_are_shown_by_their_numbers(bare_run, make_row):
    arms = ("plain", "猫", "قط", "🦊")
    dense = {"eval": "segmentation", "metric": "miou", "dataset": "部屋"}
    rows = [make_row(arm=arm, step=step, **kind) for arm in arms for step in (0, 40) for kind in ({}, dense)]
    run = read(bare_run(rows, question="何故 🦊?"))
    arm_looks = looks(run.arms, run.baseline)
    with style():
        pages = [*front_pages(run, compare(run), arm_looks), tradeoff_page(run, arm_looks)]
        for page in pages:
            make_drawable(page.figure)
            written = " ".join(text for text, _ in _texts(page))  # a letter that the font lacks warns, and fails here
            assert all(name in written for name in ("\\u732b", "قط", "\\U0001f98a", "\\u90e8\\u5c4b"))


def test_every_known_series_fits_one_page_of_losses(make_run):
    folder = make_run(arms={"plain": {}}, steps=40, trunk_steps=20, every=10)
    known = titles(read(folder))
    assert {"DINO, local crops", "Gram", "Gram weight"} <= set(known.values())
    for path in folder.glob("*/metrics.jsonl"):
        lines = map(json.loads, path.read_text().splitlines())
        lines = [line | dict.fromkeys(known, 0.5 + line["step"] / 100) for line in lines]
        path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    with style():
        run = read(folder)
        (page,) = loss_pages(run, looks(run.arms, run.baseline))
    assert set(known.values()) <= {text for text, _ in _texts(page)}


def test_the_mean_of_a_loss_is_drawn_at_steps_that_all_seeds_logged(bare_run, make_row):
    folder = bare_run([make_row(seed=seed, step=40) for seed in (0, 1)])
    for seed, steps in enumerate(((10, 20, 25, 40), (10, 20, 40))):
        place = folder / f"plain-s{seed}"
        place.mkdir()
        lines = [{"step": step, "loss": 4.0 + 2 * seed} for step in steps]
        (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with style():
        run = read(folder)
        (page,) = loss_pages(run, looks(run.arms, run.baseline))
    (mean,), (band,) = page.figure.axes[0].lines, page.figure.axes[0].collections
    assert (mean.get_xdata().tolist(), mean.get_ydata().tolist()) == ([10, 20, 40], [5, 5, 5])
    ends = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert ends == {(step, value) for step in (10, 20, 40) for value in (4, 6)}


def test_steps_that_were_passed_over_are_crosses_at_the_foot_of_the_total_loss(bare_run, make_row):
    folder = bare_run([make_row(step=40)])
    place = folder / "plain-s0"
    place.mkdir()
    lines = [
        {"step": step, "dino_global": 4.0 + step} | ({"loss": 4.0 + step} if step != 20 else {})
        for step in (10, 20, 40)
    ]
    (place / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    bad = {"step": 19, "terms": ["koleo"], "images": ["a"]}
    (place / "bad_steps.json").write_text(json.dumps({"steps": [bad]}))
    with style():
        run = read(folder)
        (page,) = loss_pages(run, looks(run.arms, run.baseline))
    marks = [[(*line.get_xdata(),) for line in axes.lines if line.get_marker() == "x"] for axes in page.figure.axes]
    assert marks == [[(19,)], []]
    assert any("× at the foot of the total loss" in text for text, _ in _texts(page))


def test_a_series_that_never_changes_is_a_line_of_text_and_the_plan_lies_behind_what_was_measured(bare_run, make_row):
    folder = bare_run([make_row(step=40)])
    (folder / "plain-s0").mkdir()
    lines = [{"step": step, "lr": step / 100, "momentum": 0.994} for step in (10, 20, 40)]
    (folder / "plain-s0" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    rate = Curve(("plain",), 0, 40, (0, 20, 39), (0.0, 0.2, None))
    write_timeline(folder / "plan.json", Timeline("x", "", ("plain",), (), (), {"Learning rate": (rate,)}))
    with style():
        run = read(folder)
        (page,) = loss_pages(run, looks(run.arms, run.baseline))
    (axes,) = page.figure.axes
    behind, raw, mean = axes.lines
    assert behind.get_xdata().tolist() == [0, 20, 39, 40]
    assert np.array_equal(behind.get_ydata(), [0, 0.2, np.nan, np.nan], equal_nan=True)
    assert raw.get_ydata().tolist() == [0.1, 0.2, 0.4]
    assert mean.get_ydata() == pytest.approx([0.1, 0.2, 0.4])
    written = " ".join(text.get_text() for text in page.figure.texts).replace("\u00a0", " ")
    assert "The same in every logged step: EMA momentum 0.994." in written
    assert "pale and broad: as planned" in written


def test_a_long_configuration_goes_on_to_further_pages_and_loses_no_setting(make_run):
    config = {f"section{n}": {f"setting_{n}_{k}": k for k in range(40)} for n in range(12)}
    with style():
        run = read(make_run(steps=40, trunk_steps=20, every=10, config=config))
        pages = provenance.provenance_pages(run, looks(run.arms, run.baseline))
    written = {text.get_text() for page in pages for text in page.figure.texts}
    assert len(pages) > 1
    assert {f"setting_{n}_{k}" for n in range(12) for k in range(40)} <= written


def test_a_run_that_searched_nothing_has_no_settings_of_a_sweep(make_run):
    for number, objectives in enumerate(([], ["knn.top1"])):
        config = {"sweep": {"objectives": objectives, "heartbeat": 30}}
        with style():
            run = read(make_run(name=f"run{number}", steps=40, trunk_steps=20, every=10, config=config))
            pages = provenance.provenance_pages(run, looks(run.arms, run.baseline))
        written = {text.get_text() for page in pages for text in page.figure.texts}
        assert ("heartbeat" in written) == bool(objectives)


def test_smoothing_keeps_lines_straight_and_in_place():
    line = np.linspace(0, 1, 200)
    assert smooth(line) == pytest.approx(line)
    spike = np.zeros(201)
    spike[100] = 1.0
    assert smooth(spike).argmax() in range(95, 106)
    assert smooth(spike).sum() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (2.0, "2"), ([1, 2], "[1, 2]"), (list(range(9)), "[0, 1, 2, 3, 4, 5, … 3 more]")],
)
def test_settings_are_written_as_yaml_would(value, text):
    assert provenance.shown(value) == text
