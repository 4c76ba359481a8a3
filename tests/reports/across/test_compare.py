"""The command that sets experiments side by side: what it says, what it writes, what it refuses."""

import json

import pandas as pd
import pytest

from evals.results.table import load
from reports.across.picture import tradeoff
from reports.across.sides import shared, sides
from reports.compare import main
from reports.page import style
from reports.run_folder import TRUNK

SMALL = {"steps": 40, "trunk_steps": 20, "every": 10}
ARMS = {"plain": {}, "anchored": {"gram.weight": 2.0}}
FILES = ["differences.csv", "settings.csv", "tradeoff.pdf", "tradeoff.png", "values.csv"]


@pytest.fixture
def two(make_run):
    stronger = ARMS | {"anchored": {"gram.weight": 5.0}}
    return [
        make_run(name="yesterday", arms=ARMS, seeds=(0, 1), **SMALL),
        make_run(name="today", arms=stronger, seeds=(0, 1), **SMALL),
    ]


def told(capsys, *given):
    assert main([*map(str, given)]) == 0
    return capsys.readouterr().out


def test_it_tells_what_differs_what_came_out_and_what_that_does_not_show(two, capsys):
    text = told(capsys, *two)
    assert text.splitlines()[0].startswith("yesterday  2 arms  seeds 0, 1  40 steps")
    assert "  anchored: gram.weight  2          5" in text
    assert "Each arm at its last step" in text
    assert "anchored − plain" in text
    assert "Each arm minus that of yesterday" in text
    assert "Several settings" not in text  # one differs
    assert "images are not: no verdict" in text


def test_values_are_means_over_seeds_at_the_last_step(two, capsys):
    rows = load(two[0] / "results.jsonl")
    own = rows[(rows.arm == "plain") & (rows.step == 40) & (rows.metric == "miou")]
    (line,) = [line for line in told(capsys, *two).splitlines() if line.split()[:2] == ["yesterday", "plain"]]
    assert f"{100 * own.value.mean():.1f} ±" in line


def test_every_number_and_the_picture_are_written_together(two, tmp_path, capsys):
    assert "1 more" not in told(capsys, *two, "--out", tmp_path / "out", "--all")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == FILES
    values = pd.read_csv(tmp_path / "out" / "values.csv")
    assert values.groupby(["experiment", "arm"]).size().to_dict() == dict.fromkeys(
        [(name, arm) for name in ("today", "yesterday") for arm in ("anchored", "plain")], 6
    )
    differences = pd.read_csv(tmp_path / "out" / "differences.csv")
    assert differences.groupby(["experiment", "against"]).size().to_dict() == {
        ("today", "today"): 6, ("today", "yesterday"): 12, ("yesterday", "yesterday"): 6,
    }  # fmt: skip
    settings = pd.read_csv(tmp_path / "out" / "settings.csv")
    assert settings[["setting", "yesterday", "today"]].values.tolist() == [["anchored: gram.weight", 2.0, 5.0]]


def test_equal_experiments_give_equal_bytes(two, tmp_path, capsys):
    for name in "ab":
        told(capsys, *two, "--out", tmp_path / name)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_paths_of_all_experiments_stand_in_one_plane(two):
    every = sides(two)
    with style():
        page = tradeoff(every, shared(every))
    assert page is not None
    main_panel = page.figure.axes[0]
    names = {text.get_text() for text in main_panel.texts}
    assert {"plain, yesterday", "plain, today", "anchored, yesterday", "anchored, today"} <= names
    lines = [line for line in main_panel.lines if line.get_linewidth() == 2.2]
    assert len(lines) == 6  # an arm of each, and both trunks
    assert TRUNK not in names


def test_without_a_dense_measure_there_is_no_picture_and_an_old_one_goes(two, tmp_path, capsys):
    told(capsys, *two, "--out", tmp_path / "out")
    for folder in two:
        lines = (folder / "results.jsonl").read_text().splitlines()
        (folder / "results.jsonl").write_text("\n".join(line for line in lines if '"top1"' in line) + "\n")
    assert "no picture" in told(capsys, *two, "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        name for name in FILES if "tradeoff" not in name
    ]


def test_experiments_of_one_arm_are_compared(make_run, capsys):
    one, other = (make_run(name=name, arms={"plain": {}}, seeds=(0, 1), **SMALL) for name in "ab")
    text = told(capsys, one, other)
    assert "Each arm minus that of a" in text
    assert "minus the baseline of its experiment" not in text


def test_what_is_missing_of_a_half_done_experiment_is_said(make_run, capsys):
    arms = {**ARMS, "third": {}, "fourth": {}, "fifth": {}}
    one, other = (make_run(name=name, arms=arms, died=name == "b", **SMALL) for name in "ab")
    text = told(capsys, one, other)
    for said in ("third: failed at step 30 of 40", "fourth: interrupted at step 30 of 40", "fifth: not started"):
        assert said in text
    (line,) = [line for line in text.splitlines() if line.split()[:2] == ["fifth", "–"]]
    assert line.split()[1:] == ["–"] * (len(line.split()) - 1)


def test_a_damaged_line_costs_itself_and_is_told(two, capsys):
    with (two[1] / "results.jsonl").open("a") as file:
        file.write('{"run": "today"}\n')
    assert "results.jsonl:" in told(capsys, *two)


def test_one_seed_and_unlike_seeds_are_warned_of(make_run, capsys):
    one = make_run(name="a", arms=ARMS, seeds=(0, 1), **SMALL)
    assert "Unlike seeds are not paired" in told(capsys, one, make_run(name="b", arms=ARMS, seeds=(2, 3), **SMALL))
    assert "One seed (c)" in told(capsys, one, make_run(name="c", arms=ARMS, seeds=(0,), **SMALL))


@pytest.mark.parametrize("broken", ["no folder", "no run", "alone", "twice", "damaged", "no rows", "unlike", "out"])
def test_bad_input_is_one_line_and_what_is_there_stays(two, tmp_path, capsys, broken):
    one, other = two
    out = tmp_path / "out"
    out.mkdir()
    (out / "values.csv").write_text("mine")
    given = [one, other, "--out", out]
    if broken == "no folder":
        given[1] = tmp_path / "nowhere"
    elif broken == "no run":
        given[1] = out
    elif broken == "alone":
        given = given[1:]
    elif broken == "twice":
        given[1] = one
    elif broken == "damaged":
        (other / "results.jsonl").write_bytes(b"\x00 not json\n")
    elif broken == "no rows":
        (other / "results.jsonl").unlink()
    elif broken == "unlike":
        text = (other / "results.jsonl").read_text()
        (other / "results.jsonl").write_text(text.replace('"data": "5cab1e00"', '"data": "00000000"'))
    else:
        given[3] = out / "values.csv"
    assert main([*map(str, given)]) == 2
    said = capsys.readouterr()
    assert said.err.startswith("gramlab: ")
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert {path.name: path.read_text() for path in out.iterdir()} == {"values.csv": "mine"}


def test_a_record_without_settings_is_compared_all_the_same(two, capsys):
    record = json.loads((two[0] / "experiment.json").read_text())
    (two[0] / "experiment.json").write_text(
        json.dumps({key: record[key] for key in ("name", "arms", "seeds", "baseline")})
    )
    assert "Each arm minus that of yesterday" in told(capsys, *two)


def test_an_arm_that_no_other_experiment_has_is_called_by_its_name_alone(make_run):
    one, other = (make_run(name=name, arms={"plain": {}, f"of_{name}": {}}, **SMALL) for name in "ab")
    every = sides([one, other])
    with style():
        page = tradeoff(every, shared(every))
    assert page is not None
    names = {text.get_text() for text in page.figure.axes[0].texts}
    assert {"plain, a", "plain, b", "of_a", "of_b"} <= names
