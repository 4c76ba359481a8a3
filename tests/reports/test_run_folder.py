import fcntl
import json
from dataclasses import replace

import pytest

from common.errors import BadInput
from common.timeline import Curve, Lane, Timeline, write_timeline
from reports.cautions import cautions
from reports.estimates import columns
from reports.run_folder import Event, gaps, read


def test_a_run_that_ended_well_has_no_gaps(make_run):
    assert gaps(read(make_run(steps=40, trunk_steps=20, every=10))) == []


def test_who_holds_its_lock_is_running_and_who_does_not_was_interrupted(make_run):
    folder = make_run(died=True)
    lock = folder / "double_resolution-s0" / ".lock"
    with lock.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert "double_resolution: running at step 300 of 400" in gaps(read(folder))
    assert "double_resolution: interrupted at step 300 of 400" in gaps(read(folder))


def test_what_failed_what_runs_and_what_never_started_is_named(make_run):
    said = gaps(read(make_run(died=True)))
    assert said == [
        "renewed: failed at step 300 of 400 (step 300: dino_global=nan, ibot=7.1)",
        "double_resolution: interrupted at step 300 of 400",
        "homogeneous: not started",
    ]


def test_seeds_are_named_where_there_are_several(make_run):
    folder = make_run(seeds=(0, 1), steps=40, trunk_steps=20, every=10, arms={"plain": {}})
    (folder / "plain-s1" / "status.json").write_text('{"state": "interrupted", "step": 30, "steps": 40}')
    assert gaps(read(folder)) == ["plain seed 1: interrupted at step 30 of 40"]


def test_a_seed_that_was_not_begun_is_missing_and_counts_in_no_mean(bare_run, make_row):
    run = read(bare_run([make_row(seed=1)], arms={"plain": {}}, seeds=[0, 1, 2]))
    assert gaps(run) == ["plain seed 0, plain seed 2: not started", "plain seed 1: no record of its end"]
    assert run.seeds == (1,)
    assert any(note.startswith("One seed") for note in cautions(run))


def test_lanes_in_the_same_state_share_a_sentence(bare_run, make_row):
    run = read(bare_run([make_row()], arms={"plain": {}, "anchored": {}, "renewed": {}}))
    assert gaps(run) == ["plain: no record of its end", "anchored, renewed: not started"]


def test_a_torn_last_line_loses_only_itself(make_run):
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}})
    before = read(folder)
    for path in (folder / "results.jsonl", folder / "plain-s0" / "metrics.jsonl"):
        with path.open("a") as file:
            file.write('{"step": 41, "loss": 3.')
    after = read(folder)
    assert len(after.rows) == len(before.rows)
    assert after.curves["plain", 0]["loss"].steps.tolist() == before.curves["plain", 0]["loss"].steps.tolist()


def test_curves_with_nulls_infinities_and_values_beyond_any_axis_are_read(make_run):
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}})
    with (folder / "plain-s0" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "loss": null, "grad_norm": Infinity, "lr": 1e308}\n')
    curve = read(folder).curves["plain", 0]
    assert (curve["step"].steps[-1], curve["loss"].steps[-1], curve["grad_norm"].steps[-1]) == (41, 40, 40)
    assert curve["lr"].steps[-1] == 40  # no axis can be made of such a value


def test_a_folder_that_can_give_no_report_is_refused(tmp_path, make_run):
    with pytest.raises(BadInput, match="no folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"no experiment\.json"):
        read(tmp_path / "empty")
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}})
    (folder / "results.jsonl").unlink()
    with pytest.raises(BadInput, match="no result rows"):
        read(folder)
    (folder / "experiment.json").write_text("{")
    with pytest.raises(BadInput, match=r"experiment\.json cannot be read"):
        read(folder)


def test_a_baseline_that_is_no_arm_is_refused(make_run):
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}})
    record = json.loads((folder / "experiment.json").read_text())
    (folder / "experiment.json").write_text(json.dumps(record | {"baseline": "plian"}))
    with pytest.raises(BadInput, match="plian"):
        read(folder)


@pytest.mark.parametrize(
    ("name", "line"), [("results.jsonl", '{"run": "a", "arm": "plain"}'), ("plain-s0/metrics.jsonl", '{"step": "7"}')]
)
def test_a_damaged_line_costs_itself_alone_and_is_told_with_its_number(make_run, name, line):
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}})
    before = read(folder)
    first, second, *others = (folder / name).read_text().splitlines()
    (folder / name).write_text("\n".join([first, line, second, *others, line]) + "\n")
    after = read(folder)
    assert after.rows == before.rows
    curves = [run.curves["plain", 0]["loss"].values.tolist() for run in (before, after)]
    assert curves[0] == curves[1]
    (said,) = gaps(after)
    assert said.startswith(f"{name}:2: ")
    assert said.endswith(": left out, and 1 more")


def test_a_lost_row_of_the_curve_leaves_those_behind_it(make_run):
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}})
    path = folder / "plain-s0" / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:4], "\0\xff\n", *lines[5:]]), encoding="latin-1")
    assert read(folder).curves["plain", 0]["loss"].steps.tolist() == [*range(21, 25), *range(26, 41)]


@pytest.mark.parametrize("damage", ["", "[]", '{"step": "9"}', '{"steps": -1}', '{"seconds": 1e999}'])
def test_a_damaged_status_is_told(make_run, damage):
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}})
    (folder / "plain-s0" / "status.json").write_text(damage)
    first, second = gaps(read(folder))
    assert first == "plain: no record of its end"
    assert second.startswith("plain-s0/status.json cannot be read (")


def test_a_finished_job_without_the_end_of_its_curve_is_told(make_run):
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}, "other": {}})
    path = folder / "plain-s0" / "metrics.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-5]))
    (folder / "other-s0" / "metrics.jsonl").unlink()
    assert gaps(read(folder)) == [
        "plain: done, but its training curve (metrics.jsonl) ends at step 35 of 40",
        "other: done, but its training curve (metrics.jsonl) is lost",
    ]


@pytest.mark.parametrize("name", ["experiment.json", "results.jsonl"])
def test_a_folder_in_the_place_of_a_table_is_refused_and_elsewhere_told(make_run, name):
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}})
    for one in ("status.json", "metrics.jsonl"):
        (folder / "plain-s0" / one).unlink()
        (folder / "plain-s0" / one).mkdir()
    assert len(gaps(read(folder))) == 3
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(BadInput, match=f"{name} (cannot be read|is no file)"):
        read(folder)


def test_files_of_others_in_a_run_folder_are_passed_over(make_run):
    folder = make_run(steps=40, trunk_steps=20, every=10, arms={"plain": {}})
    before = read(folder)
    (folder / "results (copy).jsonl").write_text("no rows")
    (folder / "plain-s0" / "status.json~").write_text("{")
    (folder / "plain-s0 (copy)").mkdir()
    (folder / "notes.txt").write_bytes(b"\xff")
    after = read(folder)
    assert (after.rows, gaps(after)) == (before.rows, [])


def test_what_a_run_decided_by_itself_is_an_event_of_its_arm(make_run):
    folder = make_run()
    arm, seed = (run := read(folder)).arms[-1], run.seeds[0]
    rows = ['{"step": 3, "kind": "measured", "value": 0.7}', '{"step": 3, "kind": "gram_start", "teacher": 2}']
    (folder / f"{arm}-s{seed}" / "dense.jsonl").write_text("\n".join(rows) + "\n")
    found = set(read(folder).events[arm])
    assert found == {*run.events[arm], Event(3, "gram_start"), Event(3, "alarm")}


def test_a_start_that_was_not_planned_is_marked_as_an_alarm(make_run):
    folder = make_run(arms={"plain": {}, "alarm": {"gram.weight": 1.0}}, steps=40, trunk_steps=0, every=20)
    (folder / "alarm-s0" / "dense.jsonl").write_text('{"step": 10, "kind": "gram_start"}\n')
    assert read(folder).events["alarm"] == (Event(10, "alarm"), Event(10, "gram_start"))


def test_the_plan_of_a_run_is_read_back_as_it_was_written_and_a_damaged_one_is_told(make_run):
    folder = make_run(arms={"plain": {}}, steps=40, trunk_steps=0, every=20)
    assert read(folder).plan is None
    curve = Curve(("plain",), 0, 40, (0, 20, 39), (0.1, None, 0.3))
    lane = Lane("plain", None, 0, 40, range(20, 41, 20), [], "Gram off", None, [], [])
    plan = Timeline("gram_ablation", "Why?", ("plain",), (lane,), ("Weight decay 0.04",), {"Learning rate": (curve,)})
    write_timeline(folder / "plan.json", plan)
    found = read(folder).plan
    assert found is not None
    assert [*found.lanes[0].evaluations] == [20, 40]
    assert replace(found, lanes=()) == replace(plan, lanes=())
    (folder / "plan.json").write_text("{")
    assert (read(folder).plan, len(read(folder).damaged)) == (None, 1)


def test_rows_that_a_crash_cut_off_are_told_and_those_before_them_kept(make_run):
    folder = make_run(arms={"plain": {}, "anchored": {}}, steps=40, trunk_steps=0, every=20)
    path, whole = folder / "results.jsonl", read(folder).rows
    path.write_bytes(path.read_bytes()[:-40] + b"\x00\xff")
    run = read(folder)
    assert run.rows == whole[:-1]
    assert [line.partition(":")[0] for line in gaps(run)] == ["results.jsonl"]


def test_rows_of_an_unknown_evaluation_and_protocol_are_a_column_of_their_own(make_run):
    folder = make_run(arms={"plain": {}, "anchored": {}}, steps=40, trunk_steps=0, every=20)
    unknown = {"eval": "future", "protocol": "future-v9", "protocol_hash": "ffff", "metric": "strange"}
    rows = [json.loads(line) | unknown for line in (folder / "results.jsonl").read_text().splitlines()[-1:]]
    with (folder / "results.jsonl").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    (column,) = (one for one in columns(read(folder)) if one.eval == "future")
    assert (column.title, column.protocol_hash) == ("Future strange", "ffff")
