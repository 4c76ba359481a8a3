"""Training curves that survive crashes and resumes."""

import json
import time

from common.records import CurvePoint, read_lines
from harness.curves import Curves, Stopwatch


def rows(*steps):
    return [{"step": step, "seconds": step / 2, "loss": 1.0 / step} for step in steps]


def written(folder, *steps):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(*steps)))


def test_rows_come_back_as_they_were_added(tmp_path):
    curves = Curves(tmp_path, step=0)
    for row in rows(1, 2, 3):
        curves.add(row)
    curves.close()
    assert read_lines(tmp_path / "metrics.jsonl", CurvePoint).rows == rows(1, 2, 3)
    assert (curves.steps_logged, curves.seconds_logged) == (3, 1.5)


def test_a_resumed_curve_is_cut_back_to_where_the_run_goes_on(tmp_path):
    written(tmp_path, 1, 2, 3, 4)
    curves = Curves(tmp_path, step=2)
    curves.add(rows(3)[0])
    curves.close()
    assert [row["step"] for row in read_lines(tmp_path / "metrics.jsonl", CurvePoint).rows] == [1, 2, 3]


def test_a_line_that_a_crash_cut_short_is_left_out_and_written_over(tmp_path):
    written(tmp_path, 1, 2)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "sec')
    assert read_lines(tmp_path / "metrics.jsonl", CurvePoint).rows == rows(1, 2)
    curves = Curves(tmp_path, step=3)
    curves.add(rows(3)[0])
    curves.close()
    assert read_lines(tmp_path / "metrics.jsonl", CurvePoint).rows == rows(1, 2, 3)


def test_scalars_reach_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = Curves(tmp_path, step=0)
    curves.add(rows(1)[0])
    curves.add_evaluation(1, {"knn/rooms/top1": 0.25})
    curves.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/seconds", "evals/knn/rooms/top1"}
    assert events.Scalars("evals/knn/rooms/top1")[0].value == 0.25


def test_a_stopwatch_tells_the_share_of_its_own_time_that_went_by_waiting(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    watch = Stopwatch(50.0)
    for waits, works, pauses in ((1.0, 2.0, 10.0), (0.5, 2.5, 20.0)):
        with watch.waiting():
            now[0] += waits
        now[0] += works
        with watch.paused():
            now[0] += pauses
    assert watch.seconds() == 56.0
    assert watch.share_waited() == 0.25
