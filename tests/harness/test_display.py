"""What a terminal shows of a run: every job that is trained, the rest counted, on a terminal of any size."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from rich.console import Console

from common import progress
from common.display import Block
from common.progress import Bar
from common.records import AskedJob
from evals.results.table import Row, line
from harness.display import Shown, ShownSweep
from harness.standings import Launch, write_launch
from harness.workplace import held

HEADLINE = [["knn", "rooms", "test", "top1", "c5"], ["depth", "rooms", "test", "rmse", "d3"]]
MEASURED = Row(
    run="mine", arm="arm000", seed=0, step=50, eval="knn", protocol="quick", protocol_hash="c5", size=32,
    dataset="rooms", split="test", data="00", metric="top1", value=0.25, low=0.2, high=0.3, images=8,
)  # fmt: skip
DEPTH = {"eval": "depth", "protocol_hash": "d3", "metric": "rmse"}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Makes the folder of a run of `count` jobs of 100 steps, of which `now` are trained at step 60, `done` done."""
    with ExitStack() as holding:

        def make(count: int, *, now: int = 0, done: int = 0, name: str = "arm{:03d}-s0") -> Path:
            folder = tmp_path / "runs" / "mine"
            folder.mkdir(parents=True)
            jobs = {name.format(at): asked(at) for at in range(count)}
            (folder / "experiment.json").write_text(json.dumps({"jobs": jobs, "headline": HEADLINE}))
            write_launch(folder, Launch("local", max(now, 1), dict.fromkeys(jobs, (50.0, 5.0))))
            holding.enter_context(held(folder))
            for at, one in enumerate(jobs.values()):
                segment = folder.parent / ".segments" / one["segment"]
                segment.mkdir(parents=True)
                if at < done:
                    tell(segment, state="done", step=100, steps=100)
                elif at < done + now:
                    holding.enter_context(held(segment))
                    points = [{"step": step, "seconds": step / 2, "loss": 4.5} for step in range(10, 61, 10)]
                    (segment / "metrics.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
            return folder

        yield make


def asked(at: int) -> AskedJob:
    return {"segment": f"{at:04x}", "start": 0, "stop": 100, "parent": None}


def tell(segment: Path, **content: object) -> None:
    (segment / "status.json").write_text(json.dumps(content))


def lines(shown: Callable[[Console], object], width: int = 100, height: int = 24) -> list[str]:
    """What is drawn on a terminal of this size."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(shown(console))
    return [re.sub(r"\x1b\[[\d;]*m", "", text).rstrip() for text in captured.get().splitlines()]


def test_a_job_that_runs_has_its_line_and_the_others_are_counted(run):
    folder = run(5, now=2, done=1)
    (folder / "results.jsonl").write_text(line(MEASURED) + "\n")
    heading, first, second, summary = lines(Shown(folder))
    assert re.split(r"  +", heading) == ["job", "step", "steps/s", "left", "loss"]
    assert re.split(r"  +", first) == ["arm001-s0", "60/100", "2", "22 s", "4.500"]
    assert second.startswith("arm002-s0  60/100")
    assert summary.startswith("mine: 2 running, 2 waiting, 1 done; done in about ")


def test_what_was_evaluated_last_stands_beside_a_job_as_the_table_grows(run):
    folder = run(1, now=1)
    table, shown = folder / "results.jsonl", Shown(folder)
    assert "top-1" not in lines(shown)[0]
    table.write_text(line(MEASURED) + "\n" + line(change(value=0.5, **DEPTH))[:30])
    assert re.split(r"  +", lines(shown)[0]) == ["job", "step", "steps/s", "left", "top-1 accuracy %", "loss"]
    assert lines(shown)[1].split()[-2:] == ["25.00", "4.500"]
    with table.open("a") as file:
        file.write(line(change(value=0.5, **DEPTH))[30:] + "\n" + line(change(step=60, value=0.375)) + "\n")
        file.write(line(change(metric="of_a_newer_version")) + "\n" + line(change(arm="other")) + "\n")
    assert re.split(r"  +", lines(shown)[0])[4:] == ["top-1 accuracy %", "depth RMSE m", "loss"]
    assert lines(shown)[1].split()[-3:] == ["37.50", "0.5000", "4.500"]


def test_where_no_headline_is_asked_for_the_first_leading_measure_of_each_kind_is_told(run):
    folder = run(1, now=1)
    (folder / "experiment.json").write_text(json.dumps({"jobs": {"arm000-s0": asked(0)}}))
    rows = [MEASURED, change(metric="top5"), change(**DEPTH), change(eval="logreg", value=0.9)]
    (folder / "results.jsonl").write_text("".join(line(row) + "\n" for row in rows))
    assert re.split(r"  +", lines(Shown(folder))[0])[4:] == ["top-1 accuracy %", "depth RMSE m", "loss"]
    assert "25.00" in lines(Shown(folder))[1]


def change(**values: object) -> Row:
    return Row(**{**vars(MEASURED), **values})  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(("count", "now"), [(1, 1), (30, 2), (200, 5), (200, 64)])
@pytest.mark.parametrize(("width", "height"), [(40, 24), (100, 24), (40, 10), (20, 8), (200, 60)])
def test_what_is_shown_fits_every_terminal(count, now, width, height, run):
    name = "an-arm-whose-name-is-long-ガイド-{:03d}-s0"
    found = lines(Shown(run(count, now=now, name=name)), width, height)
    assert len(found) < height
    assert max(map(len, found)) <= width
    rows = [text for text in found if re.search(r" 60/100| 60/1…|60/…", text)]
    hidden = next((int(text.split()[1]) for text in found if text.startswith("and ")), 0)
    assert len(rows) + hidden == now
    assert f"{now} running" in " ".join(found)


def test_a_narrow_terminal_keeps_name_step_and_time_left(run):
    heading, row, *_ = lines(Shown(run(1, now=1)), 30)
    assert re.split(r"  +", heading) == ["job", "step", "left"]
    assert re.split(r"  +", row) == ["arm000-s0", "60/100", "22 s"]


def test_the_job_that_ended_last_keeps_a_line(run):
    folder = run(4, now=1, done=1)
    shown = Shown(folder)
    assert not any("done" in text.split()[2:] for text in lines(shown)[:-1])
    tell(folder.parent / ".segments" / "0002", state="failed", step=70, steps=100, error="step 70: dino=nan")
    assert lines(shown)[2].split() == ["arm002-s0", "0/100", "–", "failed"]
    tell(folder.parent / ".segments" / "0003", state="done", step=100, steps=100)
    _, running, ended, summary = lines(shown)
    assert running.startswith("arm001-s0")
    assert ended.split()[:4] == ["arm003-s0", "100/100", "–", "done"]
    assert summary.startswith("mine: 1 running, 2 done, 1 failed")


def test_a_job_whose_last_export_has_no_results_is_told_to_be_evaluated(run):
    folder = run(1, now=1)
    export = folder.parent / ".segments" / "0000" / "step_000060"
    export.mkdir()
    assert lines(Shown(folder))[1].endswith("evaluating")
    (export / "evaluated-0123.json").write_text("{}")
    assert not lines(Shown(folder))[1].endswith("evaluating")


@pytest.fixture
def standing(tmp_path: Path) -> Iterator[None]:
    """A block, of which the bars of this process are."""
    block = Block(lambda console: "", io.StringIO(), stays=False)
    with progress.standing(block):
        yield


def test_bars_tell_how_far_jobs_are_between_logged_steps_and_what_they_do_beside(run, standing):
    folder = run(2, now=1)
    with Bar(of="arm000-s0", total=100, initial=63), Bar(of="arm001-s0", total=100):
        with Bar(total=8, desc="features of rooms", unit="image", initial=2):
            found = lines(Shown(folder))
            assert re.split(r"  +", found[1])[:4] == ["arm000-s0", "63/100", "2", "20 s"]
            assert re.split(r"  +", found[2])[:4] == ["arm001-s0", "0/100", "–", "starts"]
            assert found[3].startswith("  features of rooms: 2 of 8, ")
        assert "features" not in "".join(lines(Shown(folder)))


def test_a_trial_of_a_sweep_is_told_by_its_bar_and_its_curve(run, standing):
    folder = run(1, now=1)
    trials = [{"arm": "trial-0000", "state": "complete", "params": {}}]
    (folder / "sweep.json").write_text(json.dumps({"wanted": 4, "trials": trials}))
    (folder / "trial-0001-s0").symlink_to(folder.parent / ".segments" / "0000")
    (folder / "results.jsonl").write_text(line(change(arm="trial-0001")) + "\n")
    with Bar(of="trial-0001-s0", total=100, initial=62):
        heading, row, *told = lines(ShownSweep(folder))
    assert re.split(r"  +", heading) == ["job", "step", "steps/s", "left", "top-1 accuracy %", "loss"]
    assert re.split(r"  +", row) == ["trial-0001-s0", "62/100", "2", "19 s", "25.00", "4.500"]
    assert told == ["trials: 1 of 4 at an end (1 complete); in training: trial-0001-s0"]
