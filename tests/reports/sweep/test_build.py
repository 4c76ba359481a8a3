"""The report of a sweep from its record alone: one objective and several, confirmed or not, nothing finished yet."""

import csv
import json

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from pypdf import PdfReader

from common.errors import BadInput
from reports.page import style
from reports.sweep.build import build
from reports.sweep.ending import ending
from reports.sweep.front import front_page
from reports.sweep.history import history_page
from reports.sweep.pareto import pareto_page
from reports.sweep.read import read

MIOU = {"name": "segmentation.miou", "label": "mIoU", "higher_is_better": True, "unit": "", "share": True}
HOURS = {"name": "hours", "label": "hours of training", "higher_is_better": False, "unit": "h", "share": False}
SPACE = {
    "gram.weight": {"low": 0.1, "high": 10.0, "log": True, "choices": None},
    "gram.teacher": {"choices": ["snapshot", "ema"]},
    "gram.update_every": {"choices": [None, 20], "only_if": {"gram.teacher": "snapshot"}},
}


def trial(number, miou=0.2, hours=0.01, **own):
    values = {"segmentation.miou": [[0, miou, miou - 0.01, miou + 0.01]], "hours": [[0, hours, None, None]]}
    known = {"arm": f"trial-{number:04d}", "state": "complete", "params": {"gram.weight": 0.5 + number}}
    known["params"] |= (
        {"gram.teacher": "ema"} if number % 2 else {"gram.teacher": "snapshot", "gram.update_every": None}
    )
    return {**known, "values": values, "shown": {"40": miou - 0.02, "80": miou}, "began": 1e9, "ended": 1e9 + 60, **own}


TRIALS = [
    trial(0, 0.20, 0.010),
    trial(1, 0.22, 0.020),
    trial(2, 0.19, 0.015),
    trial(3, values={}, state="pruned", pruned={"step": 40, "by": "segmentation.miou", "value": 0.18}),
    trial(4, values={}, state="failed", reason="gram.start_step=9: want below steps=9"),
    trial(5, 0.20, 0.010, same_as="trial-0000"),
]
FRONT = ["trial-0000", "trial-0001"]


@pytest.fixture
def write(tmp_path):
    """Writes a record, changed."""

    def write(**changes):
        record = {
            "name": "search", "question": "Which weight?", "seeds": [0], "steps": 80, "objectives": [MIOU, HOURS],
            "pruned_by": MIOU, "sampler": "TPESampler()", "pruner": "MedianPruner()", "space": SPACE, "wanted": 8,
            "trials": TRIALS, "front": FRONT, "references": {"plain": trial(9, 0.18, 0.009)["values"]},
            "importances": {"segmentation.miou": {"gram.weight": 0.9, "gram.teacher": 0.1}},
        }  # fmt: skip
        (tmp_path / "sweep.json").write_text(json.dumps(record | changes))

    return write


@pytest.fixture
def made(write, tmp_path):
    """Writes a record, changed, and draws it: the text of each page, and the rows of the table."""

    def make(**changes):
        write(**changes)
        pages = [page.extract_text() for page in PdfReader(build(tmp_path)).pages]
        return pages, [*csv.DictReader((tmp_path / "sweep.csv").read_text().splitlines())]

    return make


def test_page_one_tells_what_was_done_and_that_the_best_of_many_is_optimistic(made):
    pages, _ = made()
    words = " ".join(pages[0].split())
    assert (
        "6 of 8 trials on one seed: 3 ran to their end, 1 pruned, 1 failed, 1 with the settings of an earlier" in words
    )
    assert "The best of 3 trials is optimistic" in words
    assert "--confirm 3" in words
    assert "Failed: trial 4 (gram.start_step=9: want below steps=9)" in words


def test_members_of_the_front_stand_in_the_table_the_best_in_the_first_objective_first(made, tmp_path):
    made()
    assert [member.arm for member in read(tmp_path).members] == ["trial-0001", "trial-0000"]


KNOWN = [{**MIOU, "eval": "segmentation", "dataset": "scenes", "metric": "miou"}, HOURS]


def test_page_one_has_the_experiments_own_arms_to_compare_with_under_the_titles_of_reports(made):
    pages, _ = made(objectives=KNOWN, pruned_by=KNOWN[0])
    first = " ".join(pages[0].split())
    assert "mIoU (higher is better)" in first
    assert "segmentation.miou" not in "".join(pages[:2])
    assert first.index("plain: the experiment's own arm") > first.index("22.0")
    assert "18.0" in first


MIOU_FALL = {"name": "segmentation.miou.fall", "label": "fall from its best: mIoU", "higher_is_better": False,
             "fall": True, "unit": "of best", "share": True, "eval": "segmentation", "dataset": "scenes",
             "metric": "miou"}  # fmt: skip
RMSE_FALL = {**MIOU_FALL, "name": "depth.rmse.fall", "eval": "depth", "metric": "rmse"}


def fallen(number, miou, rmse):
    values = {"segmentation.miou.fall": [[0, miou, miou - 0.2, miou + 0.02]], "depth.rmse.fall": [[0, rmse, 0.1, 1.3]]}
    return trial(number, values=values)


def searched(*directions):
    """A record of falls that were searched in these directions."""
    goals = [{**goal, "direction": way} for goal, way in zip((MIOU_FALL, RMSE_FALL), directions, strict=True)]
    trials = [fallen(0, 0.01, 0.2), fallen(1, 0.11, 0.3), fallen(2, 0.05, 0.9)]
    front = ["trial-0000"] if directions[0] == "minimize" else ["trial-0001", "trial-0002"]
    return {"objectives": goals, "trials": trials, "front": front, "references": {}, "importances": {}}


def test_falls_are_told_with_what_they_are_of_and_whether_they_were_sought(write, tmp_path):
    write(**searched("maximize", "minimize"))
    found = read(tmp_path).goals
    assert [(goal.title, goal.shown_unit, goal.better) for goal in found] == [
        ("mIoU fall", "% of best", "higher is sought"), ("Depth RMSE rise", "% of best", "lower is better")
    ]  # fmt: skip
    assert found[0].axis(9.0) == "mIoU fall (% of best), higher is sought"


def test_a_fall_is_never_below_none_and_only_an_error_can_more_than_double(write, tmp_path):
    write(**searched("maximize", "maximize"))
    first = read(tmp_path).trials[0].values
    assert (first["segmentation.miou.fall"].low, first["depth.rmse.fall"].high) == (0, 1.3)
    seeds = {"segmentation.miou.fall": [[1, 0.9, None, None], [2, 0.1, None, None]]}
    write(**searched("maximize", "maximize"), confirmed={"seeds": [1, 2], "values": {"trial-0001": seeds}})
    again = read(tmp_path).confirmed["trial-0001"]["segmentation.miou.fall"]
    assert (again.low, again.high) == (0, 1)


def test_what_is_sought_is_right_and_up_and_comes_first_whichever_way_is_better(write, tmp_path):
    found = {}
    for way in ("maximize", "minimize"):
        write(**searched(way, way))
        sweep = read(tmp_path)
        with style():
            axes = pareto_page(sweep).figure.axes[0]
            lines = history_page(sweep).figure.axes[0].lines
        found[way] = axes.xaxis_inverted(), axes.yaxis_inverted(), [*lines[0].get_ydata()][:3], sweep.members[0].arm
    assert found == {
        "maximize": (False, False, pytest.approx([1, 11, 11]), "trial-0001"),
        "minimize": (True, True, pytest.approx([1, 1, 1]), "trial-0000"),
    }


def test_page_one_says_that_the_peak_of_a_fall_is_the_best_by_luck_too(made):
    pages, _ = made(**searched("maximize", "maximize"))
    words = " ".join(pages[0].split())
    assert "mIoU fall (higher is sought), Depth RMSE rise (higher is sought)" in words
    assert "A fall counts from the best of a trial's evaluations, which is the best by luck, too" in words
    assert "A fall counts" not in made()[0][0]


def test_objectives_of_one_title_are_told_apart_by_their_sets_or_else_by_their_names(write, tmp_path):
    other = {**KNOWN[0], "name": "streets.miou", "dataset": "streets"}
    write(objectives=[KNOWN[0], other], trials=[], front=[], references={})
    assert [goal.title for goal in read(tmp_path).goals] == ["mIoU on scenes", "mIoU on streets"]
    write(objectives=[KNOWN[0], {**KNOWN[0], "name": "full.miou"}], trials=[], front=[], references={})
    assert [goal.title for goal in read(tmp_path).goals] == ["segmentation.miou", "full.miou"]


def test_the_end_of_a_sweep_is_told_in_counts_the_front_and_how_to_make_sure_of_it(write, tmp_path):
    many = [trial(number, 0.2 + number / 1000, 0.01 + number / 1000) for number in range(7)]
    write(objectives=KNOWN, trials=[*many, *TRIALS[3:]], front=[one["arm"] for one in many], wanted=12)
    lines = ending(read(tmp_path))
    assert lines[0] == "10 of 12 trials: 7 complete, 1 pruned, 1 failed, 1 equal to an earlier one"
    assert lines[1] == (
        "front: trial-0006: mIoU 20.6 % [19.6, 21.6], hours 0.0160 h; "
        "gram.weight=6.5, gram.teacher=snapshot, gram.update_every=null"
    )
    assert lines[5:7] == [
        "and 3 more in sweep.csv",
        "to compare with: plain: mIoU 18.0 % [17.0, 19.0], hours 0.00900 h",
    ]
    assert "--confirm 3" in lines[7]
    values = {"segmentation.miou": [[5, 0.195, 0.19, 0.2]], "hours": [[5, 0.02, None, None]]}
    write(objectives=KNOWN, confirmed={"seeds": [5], "values": {"trial-0001": values}})
    lines = ending(read(tmp_path))
    assert lines[1].startswith("front: trial-0001: mIoU 22.0 % [21.0, 23.0], on fresh seeds 19.5 % [19.0, 20.0], hours")
    assert not any("--confirm" in line for line in lines)


def test_an_interval_that_an_axis_cuts_off_has_an_arrow_there(write, tmp_path):
    """Dots from 21 to 22 % and 0.02 to 0.03 h: an axis goes on for 0.45 of that; fewer hours are further up."""
    values = {"segmentation.miou": [[0, 0.22, 0.02, 0.221]], "hours": [[0, 0.02, 0.001, 9.0]]}
    write(trials=[trial(0, 0.21, 0.03), trial(1, values=values)], front=["trial-0001"], references={})
    with style():
        axes = pareto_page(read(tmp_path)).figure.axes[0]
    arrows = {line.get_marker(): (*line.get_xdata(), *line.get_ydata()) for line in axes.lines}
    assert {marker: at for marker, at in arrows.items() if marker != "None"} == {
        "<": pytest.approx((20.55, 0.02)), "^": pytest.approx((22, 0.0155)), "v": pytest.approx((22, 0.0345))
    }  # fmt: skip


def test_the_table_has_a_row_for_each_trial_with_the_ends_of_its_intervals(made):
    _, rows = made()
    assert [row["trial"] for row in rows] == [trial["arm"] for trial in TRIALS]
    assert [row["front"] for row in rows] == ["True", "True", "False", "False", "False", "False"]
    first = rows[0]
    assert [float(first[f"segmentation.miou{end}"]) for end in ("", " low", " high")] == pytest.approx(
        [0.2, 0.19, 0.21]
    )
    assert first["hours low"] == ""
    assert first["seconds"] == ""  # no curve tells
    assert rows[5]["same_as"] == "trial-0000"


def test_seconds_of_a_trial_are_those_of_training_in_all_its_attempts(made, tmp_path, bare_run, make_row):
    """It was begun a minute before its end for the last time, and trained for 70 s before that and 20 s after it."""
    part = {"segment": "bb", "start": 10, "stop": 30, "parent": "trunk-s0"}
    jobs = {"trunk-s0": {"segment": "aa", "start": 0, "stop": 10, "parent": None}, "trial-0000-s0": part}
    folder = bare_run([make_row(arm="trial-0000", step=30)], baseline="trial-0000", jobs=jobs)
    lane = folder / "trial-0000-s0"
    lane.mkdir()
    curve = [{"step": step, "images": 8 * step, "seconds": spent} for step, spent in ((20, 70.0), (30, 90.0))]
    (lane / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in curve))
    (lane / "status.json").write_text(json.dumps({"state": "done", "step": 30, "steps": 30, "seconds": 90.0}))
    for path in folder.iterdir():
        path.rename(tmp_path / path.name)
    _, rows = made()
    assert [row["seconds"] for row in rows] == ["90.0", "", "", "", "", ""]


def test_the_table_tells_whole_numbers_drawn_nulls_what_does_not_apply_and_where_a_trial_was_pruned(made):
    whole = trial(2, params={"gram.weight": 1.0, "gram.teacher": "snapshot", "gram.update_every": 20})
    pages, rows = made(trials=[trial(0, same_as="trial-0002", state="pruned", values={}), TRIALS[1], whole, TRIALS[3]])
    assert [row["gram.update_every"] for row in rows] == ["null", "", "20", ""]
    ends = [[row[f"pruned {key}"] for key in ("step", "by", "value")] for row in rows]
    assert ends == [["", "", ""]] * 3 + [["40", "segmentation.miou", "0.18"]]
    assert "2 ran to their end, 1 pruned, 1 with the settings of an earlier" in " ".join(pages[0].split())


def test_values_of_fresh_seeds_take_the_place_of_the_advice_to_get_some(made):
    fresh = [[seed, 0.19 + seed / 1000, None, None] for seed in (1, 2, 3)]
    values = {arm: {"segmentation.miou": fresh, "hours": fresh} for arm in (*FRONT, "plain")}
    pages, rows = made(confirmed={"seeds": [1, 2, 3], "values": values})
    assert "fresh seeds (1, 2, 3)" in " ".join(pages[0].split())
    assert "--confirm" not in pages[0]
    assert float(rows[0]["fresh segmentation.miou"]) == pytest.approx(0.192)
    assert rows[2]["fresh segmentation.miou"] == ""


def test_too_few_trials_for_importances_are_told_on_page_one_in_place_of_an_empty_page(made):
    pages, _ = made(importances={})
    assert "3 trials ran to their end: too few, or too alike, to tell which settings matter." in " ".join(
        pages[0].split()
    )
    assert not any("Which settings matter" in page for page in pages)


def test_intervals_over_seeds_end_where_values_do(made, tmp_path):
    fresh = {"segmentation.miou": [[1, 0.9, None, None], [2, 0.1, None, None]],
             "hours": [[1, 0.01, None, None], [2, 0.09, None, None]]}  # fmt: skip
    pages, _ = made(confirmed={"seeds": [1, 2], "values": dict.fromkeys(FRONT, fresh)})
    again = read(tmp_path).confirmed["trial-0000"]
    assert (again["segmentation.miou"].low, again["segmentation.miou"].high) == (0, 1)
    assert again["hours"].low == 0
    assert "−" not in pages[0]


LONG = {"gram.weight": 25, "optimizer.freeze_last_layer_steps": 1000, "teacher.temperature_warmup_steps": 12345}
LONG |= {f"data.another_setting_of_some_length_{number}": "a choice of some length" for number in range(9)}


@pytest.mark.parametrize("names", [["knn.top1", "hours"], ["segmentation/ade20k-standard-150/pixel_accuracy"] * 5])
@pytest.mark.parametrize("count", [1, 6, 12])
@pytest.mark.parametrize("confirmed", [False, True])
def test_no_text_of_page_one_covers_another(write, tmp_path, names, count, confirmed):
    goals = [{**MIOU, "name": name if len({*names}) > 1 else f"{name}{n}"} for n, name in enumerate(names)]
    params = dict([*LONG.items()][:count])
    values = {goal["name"]: [[seed, 0.000123 * seed, None, None] for seed in (1, 2)] for goal in goals}
    trials = [trial(number, params=params, values=values) for number in range(14)]
    front = [one["arm"] for one in trials]
    space = {key: {"low": 0.0, "high": 1.0, "choices": None} for key in params}
    again = {"seeds": [1, 2], "values": dict.fromkeys(front, values)} if confirmed else {}
    write(objectives=goals, trials=trials, front=front, space=space, references={}, importances={}, confirmed=again)
    with style():
        page = front_page(read(tmp_path))
        FigureCanvasAgg(page.figure).draw()
        found = [(text.get_text(), text.get_window_extent()) for text in page.figure.texts if text.get_text()]
    for place, (text, box) in enumerate(found):
        assert box.x0 >= 0, text
        assert box.x1 <= page.figure.bbox.width, text
        assert not [other for other, its in found[:place] if box.padded(-1).overlaps(its.padded(-1))], text


def test_one_objective_is_a_ranking(made):
    pages, _ = made(objectives=[MIOU], front=["trial-0001"])
    assert "THE BEST TRIAL" in pages[0]
    assert "The best trials" in pages[1]


@pytest.mark.parametrize("objectives", [[MIOU], [MIOU, HOURS]])
def test_a_sweep_without_a_finished_trial_is_drawn_too(made, objectives):
    pages, _ = made(objectives=objectives, trials=[TRIALS[3]], front=[], references={}, importances={})
    assert "No trial has come to its end yet." in pages[0]


def test_the_same_record_gives_the_same_bytes(made, tmp_path):
    made()
    first = (tmp_path / "sweep.pdf").read_bytes()
    made()
    assert (tmp_path / "sweep.pdf").read_bytes() == first


def test_a_folder_without_a_record_is_refused(tmp_path):
    with pytest.raises(BadInput, match=r"got no sweep\.json in"):
        read(tmp_path)


def test_a_damaged_record_is_refused_by_what_is_wrong_in_it(made):
    with pytest.raises(BadInput, match=r"sweep\.json cannot be read \(trials\.0\.arm is missing"):
        made(trials=[{"state": "complete", "params": {}}])
