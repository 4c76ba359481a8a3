"""What a run's files say of its jobs, by the commands `status` and `watch`."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from common import display
from common.records import AskedJob
from harness import status, watch
from harness.standings import Launch, Standing, seconds_left, standings, write_launch
from harness.workplace import held
from tests.terminal import Terminal

ROOT = Path(__file__).resolve().parents[2]


def stretch(segment: str, start: int, stop: int, parent: str | None, *, taught_by: str | None = None) -> AskedJob:
    return {"segment": segment, "start": start, "stop": stop, "parent": parent, "taught_by": taught_by}


JOBS = {
    "trunk-s0": stretch("aa", 0, 100, None),
    "plain-s0": stretch("aa", 100, 300, "trunk-s0"),  # goes on with the trunk's segment
    "late-s0": stretch("bb", 100, 300, "trunk-s0"),
    "next-s0": stretch("cc", 300, 400, "late-s0"),
}
EXPECTED = {"trunk-s0": (50.0, 5.0), "plain-s0": (100.0, 10.0), "late-s0": (100.0, 10.0), "next-s0": (50.0, 5.0)}


def tell(segment: Path, **content: object) -> None:
    segment.mkdir(parents=True, exist_ok=True)
    (segment / "status.json").write_text(json.dumps(content))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A trunk that is done, one arm that is at step 200 of 300, one that has not begun, and one behind another."""
    found = tmp_path / "runs" / "mine"
    found.mkdir(parents=True)
    (found / "experiment.json").write_text(json.dumps({"jobs": JOBS}))
    write_launch(found, Launch("local", 2, EXPECTED))
    tell(segment(found, "plain-s0"), state="running", step=110, steps=300)
    curve = [{"step": step, "seconds": 2.0 * step} for step in range(10, 201, 10)]
    (segment(found, "plain-s0") / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in curve))
    return found


def segment(run: Path, name: str) -> Path:
    return run.parent / ".segments" / JOBS[name]["segment"]


def states(run: Path) -> list[str]:
    return [job.state for job in standings(run)]


def test_a_job_runs_while_its_lock_is_held_and_others_wait_while_the_launcher_lives(run):
    with held(run), held(segment(run, "plain-s0")):
        assert states(run) == ["done", "running", "waiting", "waiting"]
        assert [job.words for job in standings(run)] == ["", "", "for a free worker", "for late-s0"]
    assert states(run) == ["done", "interrupted", "not begun", "not begun"]


def test_what_fails_blocks_what_is_behind_it_alone(run):
    tell(segment(run, "late-s0"), state="failed", step=150, steps=300, error="step 150: dino=nan")
    found = {job.name: job for job in standings(run)}
    assert (found["late-s0"].state, found["late-s0"].words) == ("failed", "step 150: dino=nan")
    assert (found["next-s0"].state, found["next-s0"].words) == ("blocked", "since late-s0 has failed")
    assert found["plain-s0"].state == "interrupted"
    assert watch.main([str(run)]) == status.main([str(run)]) == 1


def test_a_student_waits_for_its_teacher_and_is_blocked_where_that_failed(run):
    jobs = {"large-s0": stretch("dd", 0, 100, None), "small-s0": stretch("ee", 0, 100, None, taught_by="large-s0")}
    (run / "experiment.json").write_text(json.dumps({"jobs": jobs}))
    with held(run), held(run.parent / ".segments" / "dd"):
        assert [(job.state, job.words) for job in standings(run)] == [("running", ""), ("waiting", "for large-s0")]
    tell(run.parent / ".segments" / "dd", state="failed", step=5, steps=100, error="step 5: dino=nan")
    teacher, student = standings(run)
    assert (student.state, student.words) == ("blocked", "since large-s0 has failed")
    both = [replace(teacher, left=3.0), replace(student, left=4.0)]
    assert seconds_left(both, workers=2) == 7.0


def test_the_time_left_is_that_of_the_curve_and_elsewhere_the_plans_times_what_that_was_worth(run):
    trunk, plain, late, behind = standings(run)
    assert plain.rate == 0.5  # steps a second: four times the half second a step that the plan expects
    assert plain.left == pytest.approx(100 / 0.5 + 0.5 * 10.0 * 4)
    assert late.left == pytest.approx((100.0 + 10.0) * 4)
    assert trunk.left == 0
    assert seconds_left([trunk, plain, late, behind], workers=2) == pytest.approx(late.left + behind.left)
    assert seconds_left([trunk, plain, late, behind], workers=1) == pytest.approx(plain.left + late.left + behind.left)


def test_a_job_that_runs_keeps_its_worker_in_the_estimate():
    trunk = JOBS["trunk-s0"]
    jobs = [Standing("a", trunk, "waiting", 0, left=5.0), Standing("b", trunk, "running", 0, left=7.0)]
    assert seconds_left(jobs, workers=1) == 12.0


def test_the_table_says_when_all_is_done(run, capsys):
    with held(run), held(segment(run, "plain-s0")):
        assert status.main([str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[:5] == ["plain-s0", "100–300", "200", "running", "0.5"]
    assert lines[-1].startswith("mine: 1 running, 2 waiting, 1 done; done in about ")


def test_a_job_that_has_not_begun_is_at_no_step_and_what_to_do_is_told(run, capsys):
    assert status.main([str(run)]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert rows["late-s0"].split()[1:5] == ["100–300", "–", "not", "begun"]
    assert rows["late-s0"].endswith("nobody is at it: give the experiment's command again")
    assert rows["plain-s0"].split()[2:4] == ["200", "interrupted"]


def test_a_run_is_told_of_before_its_launcher_has_written_what_it_expects(run, capsys):
    """So are the trials of a sweep, which has no launcher; what nothing is known of has no time."""
    (run / "launch.json").unlink()
    with held(run), held(segment(run, "plain-s0")):
        assert status.main([str(run)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split()[3:6] == ["running", "0.5", "3"]  # minutes, by the curve
    assert lines[3].split()[3:] == ["waiting", "–", "–", "for", "a", "free", "worker"]
    assert lines[-1] == "mine: 1 running, 2 waiting, 1 done"


def test_trials_of_a_sweep_are_told_by_its_record_and_by_who_trains_them(run, capsys):
    trials = [
        {"arm": f"trial-{n:04d}", "state": s, "params": {}} for n, s in enumerate(["complete", "pruned", "running"])
    ]
    (run / "sweep.json").write_text(json.dumps({"wanted": 5, "trials": trials}))
    segment(run, "late-s0").mkdir(parents=True, exist_ok=True)
    (run / "trial-0002-s0").symlink_to(segment(run, "late-s0"))
    with held(segment(run, "late-s0")):
        assert status.main([str(run)]) == 0
    said = "trials: 2 of 5 at an end (1 complete, 1 pruned); in training: "
    assert capsys.readouterr().out.splitlines()[-1] == f"{said}trial-0002-s0"
    assert status.main([str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{said}none"


@pytest.mark.parametrize(("columns", "heading"), [(100, "job       steps    at"), (50, "job       step")])
def test_watch_redraws_in_place_and_leaves_the_last_state(columns, heading, run, monkeypatch):
    """The table of `status`, or what fits where that is too wide."""
    monkeypatch.setattr(watch, "EVERY", 0.05)
    monkeypatch.setattr(display, "EVERY", 0.0)
    monkeypatch.setattr(watch, "stay", lambda page: None)  # until Ctrl-C, which no thread gets
    monkeypatch.setattr(watch, "open_browser", lambda address: None)  # of the one who runs the tests
    monkeypatch.setenv("TERM", "xterm-256color")
    with Terminal(columns, 12) as terminal:
        monkeypatch.setattr(sys, "stdout", terminal.file)
        with held(run), held(segment(run, "plain-s0")):
            watching = threading.Thread(target=watch.main, args=([str(run)],))
            watching.start()
            assert terminal.shows(lambda text: "mine: 1 running" in text).startswith(heading)
        watching.join(60)
        assert not watching.is_alive()
        left = terminal.shows(lambda text: "mine: 1 done, 1 interrupted, 2 not begun" in text)
        assert left.count("mine: ") == 1
        terminal.ended()
        assert (terminal.screen.cursor.y, terminal.screen.cursor.x) == (len(left.splitlines()), 0)


def test_watch_writes_what_has_changed_where_that_is_no_terminal(run, capsys):
    assert watch.main([str(run)]) == 0
    assert capsys.readouterr().out.count("mine: 1 done, 1 interrupted, 2 not begun") == 1


def test_a_folder_without_a_run_is_refused_in_one_line(tmp_path, capsys):
    assert status.main([str(tmp_path)]) == 2
    assert "holds no experiment.json: want the folder of an experiment" in capsys.readouterr().err
    (tmp_path / "experiment.json").write_text("{}")
    assert status.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_status_loads_neither_torch_nor_numpy():
    program = "import sys, harness.status; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
