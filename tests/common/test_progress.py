from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from common import progress
from common.progress import Bar, telling


def test_where_no_terminal_is_the_log_tells_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    caplog.set_level(logging.INFO, "gramlab")
    assert list(Bar(range(3), desc="features", unit="image")) == [0, 1, 2]
    with Bar(total=4, desc="heads", unit="it") as bar:
        assert bar.miniters == 1
        bar.set_postfix(loss=0.5, refresh=False)
        bar.update(3)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.partition(",")[0] for line in lines] == ["features: 1 of 3", "features: 2 of 3", "heads: 3 of 4"]
    assert "left, " in lines[-1]
    assert lines[-1].endswith("it/s, loss=0.5")
    assert capsys.readouterr().err == ""


def test_a_bar_that_is_told_of_otherwise_leaves_the_log_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    caplog.set_level(logging.INFO, "gramlab")
    assert list(Bar(range(3), desc="job", lines=False)) == [0, 1, 2]
    assert not caplog.records
    assert capsys.readouterr().err == ""


def test_what_another_process_did_before_its_first_steps_is_in_no_rate():
    with Bar(total=100, initial=20, desc="job") as bar:
        bar.start_t -= 3600  # an hour of evaluations before the first of them
        bar.follow(30)
        assert (bar.n, bar.format_dict["initial"]) == (30, 30)
        assert bar.format_dict["elapsed"] < 3600
        bar.follow(40)
        assert (bar.n, bar.format_dict["initial"]) == (40, 30)


def test_a_short_loop_is_not_told_of(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "gramlab")
    assert list(Bar(range(3), desc="features")) == [0, 1, 2]
    assert not caplog.records


def test_a_terminal_gets_a_bar_that_vanishes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for _ in Bar(range(3), desc="features", mininterval=0, ascii=True):
        pass
    shown = capsys.readouterr().err
    assert "features: 100%" in shown
    assert shown.endswith("\r")


def test_the_log_goes_to_the_terminal_as_it_is(capsys: pytest.CaptureFixture[str]):
    with telling():
        progress.log.info("a line")
    assert capsys.readouterr().err == "a line\n"


def test_the_log_goes_to_the_terminal_and_to_the_end_of_a_file_with_the_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    log = progress.log
    for word in ("first", "second"):
        with telling(tmp_path / "log.txt"):
            log.info("%s line", word)
    log.info("nobody hears this")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == ["first line", "second line"]
    assert capsys.readouterr().err.splitlines() == lines


def test_the_log_is_as_it_was_when_nobody_is_told_any_more():
    log = progress.log
    before = log.level, log.propagate, list(log.handlers)
    with pytest.raises(KeyError), telling():
        raise KeyError
    assert (log.level, log.propagate, log.handlers) == before


def test_a_log_that_finds_no_room_leaves_the_line_out_and_hides_no_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def fails() -> None:
        progress.log.info("a line")
        raise KeyError

    with pytest.raises(KeyError), telling(Path("/dev/full")):
        fails()
    with telling(tmp_path / "nowhere" / "log.txt"):
        progress.log.info("another line")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("  ", 1)[1] for line in lines] == ["a line", "another line"]
