"""A page filled from tables: its numbers, what is left alone, what is refused, and that our own is up to date."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from scipy.stats import ttest_1samp

from reports.estimates import columns, trajectory
from reports.evidence import page as pages
from reports.evidence.asked import column
from reports.evidence.curve import curve
from reports.evidence.filled import Filled, file_name
from reports.evidence.page import KINDS, main
from reports.evidence.stored import Shelf
from reports.page import style
from reports.run_folder import read
from reports.tables import tables, write

ROOT = Path(__file__).resolve().parents[3]
PROSE = "# Mine\n\nBefore, at 20 %.\n\n<!-- a note for writers -->\n\n{}\n\nAfter | all.\n"
ALL = (
    "falls rooms miou rmse",
    "verdicts rooms miou knn/top1",
    "curve rooms miou",
    "values rooms 40 miou",
    "cost rooms",
)


@pytest.fixture(scope="module")
def tables_of_rooms(rooms):
    return tables(read(rooms))


@pytest.fixture
def shelf(rooms, tables_of_rooms, tmp_path):
    """The run `rooms`, whose tables lie in the folder of the page `mine.md`."""
    write(tables_of_rooms, tmp_path / "mine" / "rooms", to="parquet")
    return read(rooms)


@pytest.fixture
def fill(tmp_path):
    """Writes a page with these blocks beside the tables and fills it; returns its text."""

    def filled(*blocks):
        page = tmp_path / "mine.md"
        page.write_text(PROSE.format("\n\n".join(f"<!-- {block} -->\n<!-- end -->" for block in blocks)))
        assert main([str(page)]) == 0
        return page.read_text(encoding="utf-8")

    return filled


def cells(text):
    """The rows of the tables of a page, without their heads."""
    rows = [[cell.strip() for cell in line[1:-1].split(" | ")] for line in text.splitlines() if line.startswith("| ")]
    return [row for row in rows if not set("".join(row)) <= set("- ") and row[0] != "arm"]


def numbers(text):
    return [float(found.replace("\u2212", "-")) for found in re.findall(r"[+\u2212]?\d+(?:\.\d+)?", text)]


@pytest.mark.parametrize("page", ["docs/results.md", "README.md"])
def test_our_own_pages_are_what_their_tables_give(page):
    """`python reports/evidence/page.py PAGE --tables docs/results` writes it anew."""
    assert main([str(ROOT / page), "--tables", str(ROOT / "docs" / "results"), "--check"]) == 0


def test_values_are_means_and_ranges_of_the_seeds(shelf, fill):
    found = cells(fill("values rooms 40 miou rmse arms: anchored plain"))
    assert [row[0] for row in found] == ["`anchored`", "`plain`"]
    for (arm, miou, rmse, step, seeds), name in zip(found, ("anchored", "plain"), strict=True):
        for text, metric, factor, digits in ((miou, "miou", 100, 1), (rmse, "rmse", 1, 3)):
            own = [row.value * factor for row in shelf.rows if (row.arm, row.step, row.metric) == (name, 40, metric)]
            assert numbers(text) == [round(x, digits) for x in (np.mean(own), min(own), max(own))], arm
        assert (step, seeds) == ("40", "3")


def test_values_on_the_way_are_those_of_the_trunk(shelf, fill):
    (row,) = cells(fill("values rooms 10 miou arms: anchored"))
    own = [100 * one.value for one in shelf.rows if (one.arm, one.step, one.metric) == ("trunk", 10, "miou")]
    assert numbers(row[1])[0] == round(np.mean(own), 1)


def test_a_change_is_that_of_the_seeds_with_students_interval(shelf, fill):
    text = fill("change rooms 10 40 miou rmse arms: anchored")
    (row,) = cells(text)
    for cell, metric, factor, digits in ((row[1], "miou", 100, 1), (row[2], "rmse", 1, 3)):
        values = {
            (one.seed, one.step): one.value * factor
            for one in shelf.rows
            if one.metric == metric and (one.arm, one.step) in {("trunk", 10), ("anchored", 40)}
        }
        oracle = ttest_1samp([values[seed, 40] - values[seed, 10] for seed in (0, 1, 2)], 0)
        ends = oracle.confidence_interval(0.95)
        mean = np.mean([values[seed, 40] - values[seed, 10] for seed in (0, 1, 2)])
        assert numbers(cell) == [round(x, digits) for x in (mean, ends.low, ends.high)]
    assert "From step 10 to step 40; mean of 3 seeds; brackets: 95 % intervals over seeds." in text


def test_verdicts_are_those_of_the_table(shelf, fill, tmp_path):
    text = fill("verdicts rooms miou knn/top1")
    table = pd.read_parquet(tmp_path / "mine" / "rooms" / "verdicts.parquet")
    table = table[table["foremost"]].set_index(["arm", "eval", "metric"])
    rows = cells(text)
    assert [row[0] for row in rows] == ["`anchored`", "`renewed`"]
    for arm, *shown in rows:
        for cell, key in zip(shown, (("segmentation", "miou"), ("knn", "top1")), strict=True):
            line = table.loc[(arm.strip("`"), *key)]
            assert numbers(cell) == [round(100 * line[name], 1) for name in ("difference", "low", "high")]
            assert cell.endswith(f", {line['verdict']}")
    assert "Arm minus `plain` at step 40; 3 seeds; brackets: 95 % intervals over seeds and images" in text
    assert "corrected over 2 comparisons" in text


def test_verdicts_at_another_place_are_the_tables_there(shelf, fill, tmp_path):
    text = fill("verdicts rooms miou at: images arms: renewed")
    table = pd.read_parquet(tmp_path / "mine" / "rooms" / "verdicts.parquet")
    line = table[(table["at"] == "images") & (table["arm"] == "renewed") & (table["metric"] == "miou")].iloc[0]
    assert numbers(cells(text)[0][1]) == [round(100 * line[name], 1) for name in ("difference", "low", "high")]
    assert "Arm minus `plain` at equal images" in text


def test_arms_may_stand_anywhere_behind_the_metrics(shelf, fill):
    first, last = (
        fill(f"verdicts rooms miou {rest}") for rest in ("arms: renewed at: images", "at: images arms: renewed")
    )
    assert cells(first) == cells(last) != []


def test_verdicts_against_another_arm_turn_the_baselines_difference_round(rooms, shelf, fill, tmp_path):
    write(tables(read(rooms), against=["anchored"]), tmp_path / "mine" / "rooms", to="parquet")
    (straight,) = cells(fill("verdicts rooms miou knn/top1 arms: anchored"))
    turned = cells(fill("verdicts rooms miou knn/top1 against: anchored"))
    assert [row[0] for row in turned] == ["`plain`", "`renewed`"]
    for one, other in zip(straight[1:], turned[0][1:], strict=True):
        value, low, high = numbers(one)
        assert numbers(other) == [-value, -high, -low]
    assert "Arm minus `anchored` at step 40" in (tmp_path / "mine.md").read_text(encoding="utf-8")
    assert [row[0] for row in cells(fill("verdicts rooms miou"))] == ["`anchored`", "`renewed`"]


def test_falls_hold_peak_last_value_and_share(fill, shelf, tmp_path):
    row = cells(fill("falls rooms miou arms: plain"))[0]
    steps = {step: [] for step in (0, 10, 20, 30, 40)}
    for one in shelf.rows:
        if one.metric == "miou" and one.arm == ("trunk" if one.step <= 20 else "plain"):
            steps[one.step].append(one.value)
    values = np.array([*steps.values()]).T  # [seeds steps]
    peaks = [values[seed, np.delete(values, seed, axis=0).mean(axis=0).argmax()] for seed in range(3)]
    assert numbers(row[2]) == [round(100 * np.mean(peaks), 1)]
    assert numbers(row[4]) == [round(100 * values[:, -1].mean(), 1)]
    assert numbers(row[6])[0] == round(100 * (np.mean(peaks) - values[:, -1].mean()) / np.mean(peaks), 1)
    assert row[-1] == "3"


def test_the_cost_is_told_with_machine_and_commit(shelf, fill):
    assert "3 arms, 3 seeds (0, 1, 2); up to step 40; 12 of 12 jobs done; " in (text := fill("cost rooms"))
    assert "2 cores, AMD EPYC 7B13, torch 2.9.0; commit 3f1c2a9e10." in text


@pytest.mark.usefixtures("shelf")
def test_what_is_written_by_hand_stays_and_filling_again_changes_nothing(fill, tmp_path):
    text = fill(*ALL)
    before, _, rest = text.partition("<!-- falls")
    assert before == PROSE.partition("{}")[0]
    assert rest.endswith("<!-- end -->" + PROSE.partition("{}")[2])
    page = tmp_path / "mine.md"
    figure = tmp_path / "mine" / "rooms" / "miou.png"
    bytes_before = figure.read_bytes()
    assert main([str(page), "--check"]) == 0
    assert main([str(page)]) == 0
    assert page.read_text() == text
    assert figure.read_bytes() == bytes_before


@pytest.mark.usefixtures("shelf")
def test_a_figure_is_written_beside_the_tables_and_linked_from_where_the_page_lies(fill, tmp_path):
    text = fill("curve rooms miou knn/top1 arms: anchored plain")
    name = "rooms/miou-knn-top1-arms-anchored-plain.png"
    assert f"]({'mine/' + name})" in text
    with Image.open(tmp_path / "mine" / name) as picture:
        assert picture.width == 1280
    below = tmp_path / "deeper" / "page.md"
    below.parent.mkdir()
    below.write_text("<!-- curve rooms miou -->\n<!-- end -->\n")
    assert main([str(below), "--tables", str(tmp_path / "mine")]) == 0
    assert "](../mine/rooms/miou.png)" in below.read_text()


@pytest.mark.parametrize(("fork", "first"), [(20, 0), (30, 10)])
def test_of_a_long_trunk_a_figure_shows_the_end_alone(make_run, tmp_path, fork, first):
    run = read(make_run(steps=40, trunk_steps=fork, every=10, arms={"plain": {}, "anchored": {"gram.weight": 2.0}}))
    write(tables(run), tmp_path / "mine" / run.name, to="parquet")
    with style():
        (drawn,) = curve(Shelf(tmp_path / "mine"), [run.name, "miou"]).figures.values()
    (axes,) = drawn.axes
    assert {int(step) for line in axes.lines for step in line.get_xdata()} == {*range(first, 41, 10)}
    assert first - 2 < axes.get_xlim()[0] <= first


def test_figures_of_many_words_have_short_names_and_unlike_ones():
    arms = [
        [f"held-{width}-{rate}" for width in range(9) for rate in rates] for rates in (("low", "mid"), ("low", "high"))
    ]
    names = [file_name(["depth/rmse", "arms:", *some]) for some in arms]
    assert len({*names}) == 2
    assert all(len(name) <= 100 for name in names)


@pytest.mark.usefixtures("shelf")
def test_a_stale_page_is_refused_with_its_line_and_left_alone(fill, tmp_path, capsys):
    text, page = fill("values rooms 40 miou"), tmp_path / "mine.md"
    line = next(number for number, line in enumerate(text.splitlines(), 1) if line.startswith("| `anchored`"))
    stale = text.replace("| `anchored` | ", "| `anchored` | 9")
    page.write_text(stale)
    assert main([str(page), "--check"]) == 2
    assert capsys.readouterr().err.startswith(f"gramlab: {page}:{line}: got a line that the tables do not give")
    assert page.read_text() == stale


@pytest.mark.usefixtures("shelf")
def test_a_picture_that_the_tables_do_not_give_or_that_is_lost_is_refused(fill, tmp_path, capsys):
    fill("curve rooms miou")
    page, picture = tmp_path / "mine.md", tmp_path / "mine" / "rooms" / "miou.png"
    with Image.open(picture) as drawn:
        other = drawn.convert("RGB")
    ImageDraw.Draw(other).line([(200, 200), (600, 400)], fill="black", width=3)
    other.save(picture)
    assert main([str(page), "--check"]) == 2
    assert f"got a picture {picture} that the tables do not give" in capsys.readouterr().err
    picture.unlink()
    assert main([str(page), "--check"]) == 2
    assert f"got no picture {picture}" in capsys.readouterr().err


def test_stored_tables_give_what_the_run_gives(shelf, tmp_path):
    stored = Shelf(tmp_path / "mine").experiment("rooms").run
    assert (stored.arms, stored.seeds, stored.baseline) == (shelf.arms, shelf.seeds, shelf.baseline)
    assert (stored.lanes, stored.forks) == (shelf.lanes, shelf.forks)
    assert columns(stored) == columns(shelf)
    for one in columns(shelf):
        for lane in shelf.lanes:
            assert trajectory(stored, one, lane) == trajectory(shelf, one, lane)


def test_a_metric_is_found_by_what_tells_it_from_others(shelf):
    assert column(shelf, "mIoU").metric == "miou"
    assert column(shelf, "linear/top1").eval == "linear"
    assert column(shelf, "scenes/rmse") == column(shelf, "depth/64/rmse")


def test_a_folder_of_tables_that_is_not_there_is_told_at_the_first_block(tmp_path, capsys):
    page = tmp_path / "mine.md"
    page.write_text(PROSE.format("<!-- curve rooms miou -->\n<!-- end -->\n<!-- falls rooms miou -->\n<!-- end -->"))
    assert main([str(page), "--tables", str(tmp_path / "none")]) == 2
    line = next(at for at, text in enumerate(page.read_text().splitlines(), 1) if "curve rooms" in text)
    assert f"{page}:{line}: got no folder {tmp_path / 'none'}: want that of tables" in capsys.readouterr().err


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("block", "said"),
    [
        ("fall rooms miou", "got a block fall: want a kind of block; did you mean 'falls'?"),
        ("falls room miou", "got no tables of room in "),
        ("falls", "got no experiment: want one; known: rooms"),
        ("falls rooms", "got no metric of rooms: want one or more of "),
        ("falls rooms iou", "got metric iou: want one that rooms measured; "),
        ("falls rooms top1", "got metric top1, which rooms has 2 of: want one of them; give knn/top1, linear/top1"),
        ("falls rooms miou arms: anchor", "got arm anchor: want one of rooms; did you mean 'anchored'?"),
        ("verdicts rooms miou arms: plain", "got no verdicts of rooms for these arms"),
        (
            "verdicts rooms miou against: anchored",
            "got against: anchored: want one of plain behind it; add it by `gramlab tables RUN --out ",
        ),
        ("verdicts rooms miou at: step", "got at: step: want one of steps, images, flops, seconds, ends"),
        ("regained rooms 10 20 miou", "got 10 20 miou: want three steps behind the experiment; give numbers"),
        ("values rooms miou", "got miou: want a step behind the experiment; give a number, or last"),
        ("values rooms 33 miou", "got step 33: want one at which rooms was evaluated; give last"),
        ("change rooms 10 miou", "got 10 miou: want two steps behind the experiment; give numbers"),
        ("change rooms 10 33 miou", "got steps 10 and 33: want those at which an arm of rooms was evaluated"),
        ("cost", "got nothing: want the name of one experiment alone"),
    ],
)
def test_a_block_that_cannot_be_filled_is_one_line_and_nothing_is_written(tmp_path, capsys, block, said):
    page = tmp_path / "mine.md"
    page.write_text(text := PROSE.format(f"<!-- curve rooms miou -->\n<!-- end -->\n<!-- {block} -->\n<!-- end -->"))
    assert main([str(page)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"gramlab: {page}:9: {said}")
    assert err.count("\n") == 1
    assert page.read_text() == text
    assert not (tmp_path / "mine" / "rooms" / "miou.png").exists()


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<!-- cost rooms -->\n", "1: got a block cost without an end: want <!-- end --> after it"),
        ("<!-- cost rooms -->\n<!-- cost rooms -->\n<!-- end -->\n", "1: got a block cost without an end"),
        ("a\n<!-- end -->\n", "2: got an end of no block"),
    ],
)
def test_a_block_has_a_beginning_and_an_end(tmp_path, capsys, text, said):
    page = tmp_path / "mine.md"
    page.write_text(text)
    assert main([str(page)]) == 2
    assert capsys.readouterr().err.startswith(f"gramlab: {page}:{said}")


@pytest.mark.parametrize("damage", ["bytes", "columns"])
def test_damaged_tables_are_named(shelf, tmp_path, capsys, damage):
    path = tmp_path / "mine" / "rooms" / "jobs.parquet"
    if damage == "bytes":
        path.write_bytes(path.read_bytes()[:100])
    else:
        pd.read_parquet(path).drop(columns="hours").to_parquet(path)
    (tmp_path / "mine.md").write_text("<!-- cost rooms -->\n<!-- end -->\n")
    assert main([str(tmp_path / "mine.md")]) == 2
    err = capsys.readouterr().err
    assert str(path) in err
    assert "gramlab tables RUN --out" in err
    assert err.count("\n") == 1


@pytest.mark.usefixtures("shelf")
def test_a_new_kind_of_block_is_one_entry(fill, monkeypatch):
    monkeypatch.setitem(KINDS, "names", lambda shelf, given: Filled(", ".join([*shelf.names, *given])))
    assert "<!-- names a b -->\n\nrooms, a, b\n\n<!-- end -->" in fill("names a b")
    assert pages.KINDS is KINDS
