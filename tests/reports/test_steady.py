"""A measure that never changes is told once and takes no room; one that has hardly begun is not called so."""

from evals.results.table import Row
from reports.compared import compare
from reports.estimates import columns
from reports.page import looks, style
from reports.results_table import tables
from reports.run_folder import read
from reports.steady import moving, steady
from reports.verdict_pages import judged


def _rows(make_row, metric, values) -> list[Row]:
    return [
        make_row(eval="health", metric=metric, arm=arm, step=step, value=value)
        for (arm, step), value in zip([(arm, at) for at in (10, 20) for arm in ("plain", "other")], values, strict=True)
    ]


def test_a_measure_that_never_changes_is_a_line_of_text_and_no_column(bare_run, make_row):
    rows = [*_rows(make_row, "norm_outliers", [0.25] * 4), *_rows(make_row, "locality", [0.1, 0.2, 0.3, 0.4])]
    run = read(bare_run(rows))
    assert [column.metric for column in moving(run)] == ["locality"]
    assert steady(run).startswith("The same in every evaluation: ")
    assert steady(run).endswith(" on scenes 25.0%.")
    found = compare(run)
    assert {column.metric for column, _, _ in found} == {"locality", "norm_outliers"}
    assert [column.metric for column, _ in judged(run, found)] == ["locality"]
    with style():
        (table,) = tables(run, found, looks(run.arms, run.baseline))
    assert [column.metric for column in table.group] == ["locality"]


def test_one_evaluated_step_does_not_tell_that_a_measure_never_changes(bare_run, make_row):
    rows = [*_rows(make_row, "norm_outliers", [0.0] * 4)[:2], *_rows(make_row, "locality", [0.1, 0.1, 0.1, 0.4])]
    run = read(bare_run(rows))
    assert moving(run) == columns(run)
    assert steady(run) == ""


def test_where_nothing_changes_all_is_shown(bare_run, make_row):
    run = read(bare_run(_rows(make_row, "locality", [0.5] * 4)))
    assert moving(run) == columns(run)
    assert steady(run) == ""
