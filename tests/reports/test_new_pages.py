"""The pages on the graph, on health, on the input's size and on the paper's table: what they hold."""

import json

import numpy as np
import pytest

from reports.compared import compare
from reports.gram_teachers import teacher_age
from reports.graph import stretches
from reports.graph_page import graph_pages
from reports.health_pages import health_pages, levels
from reports.page import looks, style
from reports.parts import Line
from reports.published_gram import TABLE, published_pages, teacher_words
from reports.resolution import over_sizes, resolution_pages
from reports.run_folder import read


def _arms(bare_run, make_row):
    dense = {"eval": "segmentation", "metric": "miou"}
    rows = [
        make_row(arm=arm, step=step, value=0.5 + step / 1000, **kind)
        for arm in ("plain", "anchored")
        for step in (100, 200, 300)
        for kind in ({}, dense)
    ]
    jobs = {
        "plain-s0": {"segment": "a", "start": 0, "stop": 400, "parent": None, "found": 150},
        "anchored-s0": {"segment": "b", "start": 100, "stop": 400, "parent": "plain-s0", "found": 100},
    }
    events = {"plain": [], "anchored": [{"step": 100, "kind": "gram_start"}, {"step": 200, "kind": "gram_update"}]}
    arms = {
        "plain": {},
        "anchored": {"overrides": {"gram.weight": 2.0, "gram.teacher_step": 40, "gram.resolution": 2.0}},
    }
    return bare_run(rows, jobs=jobs, events=events, arms=arms, steps=400, config={"gram": {"weight": 0.0}})


def test_a_stretch_tells_where_it_forks_how_far_it_came_and_what_lay_in_the_store(bare_run, make_row):
    plain, anchored = stretches(read(_arms(bare_run, make_row)))
    assert (plain.lane.start, plain.lane.stop, plain.reached, plain.found) == (0, 400, 300, 150)
    assert (anchored.lane.parent, anchored.lane.start, anchored.found) == ("plain", 100, None)
    assert "from the store" in plain.notes


def test_the_age_of_a_gram_teacher_grows_with_the_steps_and_drops_where_it_is_renewed(bare_run, make_row):
    run = read(_arms(bare_run, make_row))
    age = teacher_age(run, "anchored", 0)
    assert isinstance(age, Line)
    assert age.steps.tolist() == [100, 200, 200, 300]
    assert age.values.tolist() == [60, 160, 0, 100]
    assert teacher_age(run, "plain", 0) is None
    with style():
        (page,) = graph_pages(run, looks(run.arms, run.baseline))
    assert any(np.array_equal(line.get_ydata(), age.values) for line in page.figure.axes[-1].lines)


def test_the_level_of_an_alarm_follows_the_best_value_so_far():
    assert levels({0: 0.2, 50: 0.3, 100: 0.1}, 0.1) == pytest.approx({0: 0.18, 50: 0.27, 100: 0.27})
    assert levels({0: -1.0}, 0.5) == pytest.approx({0: -1.5})


def test_a_sign_of_health_stands_against_the_labelled_measure_of_the_same_checkpoints(bare_run, make_row):
    rows = []
    for step in range(100, 900, 100):
        rows.append(make_row(step=step, eval="segmentation", metric="miou", value=0.4 + step / 10_000))
        rows.append(make_row(step=step, eval="health", metric="locality", value=step / 1000))
    run = read(bare_run(rows))
    with style():
        over, against = health_pages(run, looks(run.arms, run.baseline))
    (axes,) = against.figure.axes
    points = np.ma.getdata(np.ma.concatenate([dots.get_offsets() for dots in axes.collections]))
    assert points == pytest.approx(np.array([[step / 1000, 40 + step / 100] for step in range(100, 900, 100)]))
    assert "inside runs ρ +1.00" in axes.get_title(loc="left")
    assert len(over.figure.axes) == 1


def test_what_was_measured_at_several_sizes_is_drawn_over_them(bare_run, make_row):
    rows = [make_row(size=size, value=size / 1000, protocol_hash=str(size)) for size in (96, 192, 384)]
    run = read(bare_run([*rows, make_row(eval="linear")]))
    ((*columns,),) = over_sizes(run)
    assert [column.size for column in columns] == [96, 192, 384]
    with style():
        (page,) = resolution_pages(run, looks(run.arms, run.baseline))
    assert page.figure.axes[0].lines[0].get_xydata() == pytest.approx(np.array([[96, 9.6], [192, 19.2], [384, 38.4]]))


def test_the_papers_table_stands_beside_ours_with_what_may_not_be_compared(bare_run, make_row):
    run = read(_arms(bare_run, make_row))
    assert teacher_words(run, "anchored") == ("step 40, renewed", "×2")
    with style():
        (page,) = published_pages(run, compare(run), looks(run.arms, run.baseline))
    written = [text.get_text() for text in page.figure.texts]
    assert {f"{row.miou:.1f}" for row in TABLE} <= set(written)
    assert {"+5.4", "\u22120.026", "\u22120.2"} <= set(written)  # of 200 k at twice the size from none
    assert "never values or sizes" in " ".join(written)
    record = json.loads((run.folder / "experiment.json").read_text())
    (run.folder / "experiment.json").write_text(json.dumps(record | {"arms": {"plain": {}}}))
    off = read(run.folder)
    assert published_pages(off, {}, looks(off.arms, off.baseline)) == []
