"""What the twin tells beside the results: the same as the pages of the PDF."""

import numpy as np
import pytest

from reports.batches import SHARE, realised, series
from reports.compared import compare
from reports.gram_teachers import teacher_age
from reports.published_gram import TABLE
from reports.ranks import INSIDE
from reports.run_folder import read
from reports.signs import signs_of
from reports.twin import context
from reports.twin.curves import batches
from reports.twin.measures import fields
from reports.twin.sizes import sizes


@pytest.fixture
def run(whole):
    return read(whole)


def cells(grid):
    return {line.cells[0].text: [cell.text for cell in line.cells[1:]] for line in grid.lines}


def test_lineage_names_the_fork_and_the_age_of_the_teacher_at_the_end(make_run):
    arms = {"plain": {}, "renewed": {"gram.weight": 2.0, "gram.start_step": 24, "gram.update_every": 8}}
    run = read(make_run(steps=40, trunk_steps=20, every=10, arms=arms))
    grid = context.lineage(run)
    told = cells(grid)
    assert [*told] == ["trunk", "plain", "renewed"]
    assert told["plain"][:3] == ["20", "trunk", "40"]
    assert told["renewed"][3:5] == ["24", "renewed at step 32; 8 steps old at the end"]
    age = dict(zip(grid.sheet.columns, grid.sheet.rows[2], strict=True))["teacher_age"]
    assert age == teacher_age(run, "renewed", 0).values[-1] == 8


def test_lineage_says_how_far_an_arm_came_that_has_not_come_to_its_end(bare_run, make_row):
    jobs = {"plain-s0": {"segment": "a", "start": 0, "stop": 400, "parent": None}}
    run = read(bare_run([make_row(step=300)], jobs=jobs, steps=400))
    (line,) = context.lineage(run).lines
    assert (line.cells[3].text, line.cells[3].below) == ("300", "of 400")


def test_a_sign_has_its_rank_correlation_and_the_axes_to_look_at(run):
    known = fields(run)
    (line,) = context.signs(run, known).lines
    sign, rho, *_ = line.cells
    assert sign.text == "Locality on scenes"
    assert rho.text == "+1.00"  # the sign is half of mIoU
    axes = [next(one.title for one in known if one.name == name) for name in rho.axes]
    assert axes[0].startswith("Locality")
    assert axes[1].startswith("mIoU")
    found = signs_of(run)
    assert rho.by == found.correlation(INSIDE, *_only(found))["value"]


def _only(found):
    ((column, (sign,)),) = found.against.items()
    return sign, column


def test_the_papers_table_is_whole_and_ours_has_an_arm_a_line(run):
    assert [line.cells[0].text for line in context.theirs().lines] == [row.teacher for row in TABLE]
    assert context.theirs().lines[1].cells[2].below == "+3.3"  # 53.6 − 50.3
    told = cells(context.ours(run, compare(run)))
    assert set(told) == set(run.arms)
    assert told["anchored"][0] == "at the start"


def test_no_table_of_the_paper_where_no_arm_is_anchored(make_run):
    run = read(make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}, "other": {"optimizer.lr": 1.0}}))
    assert context.ours(run, compare(run)).lines == []


def test_each_component_has_its_share_as_realised_over_the_share_as_asked(run):
    panels, sheets = batches(run)
    shares = [panel for panel in panels if panel.title.endswith("share of images")]
    assert [panel.title.partition(":")[0] for panel in shares] == ["scenes", "photos"]
    for panel, (_, columns) in zip(shares, series(run).items(), strict=True):
        assert {value for plan in panel.plans for value in plan.values} == {0.5}
        lane = ("trunk", 1)
        given = realised(columns[SHARE][lane], run.part(*lane).start)
        drawn = [row[3] for row in sheets[panel.sheet].rows if (row[0], row[1]) == lane]
        assert drawn == pytest.approx(given.values.tolist(), rel=1e-5)


def test_a_measure_of_several_sizes_is_drawn_over_them(run):
    (one,), sheets = sizes(run)
    assert one.sizes == [64, 128]
    rows = [dict(zip(sheets[one.name].columns, row, strict=True)) for row in sheets[one.name].rows]
    by_size = {(row["arm"], row["size"]): row["value"] for row in rows}
    for arm in run.arms:
        assert by_size[arm, 128] - by_size[arm, 64] == pytest.approx(10, abs=1e-9)
    assert all(np.isfinite([row["low"], row["high"]]).all() for row in rows)
