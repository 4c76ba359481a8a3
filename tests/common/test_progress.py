from __future__ import annotations

import logging
import sys

import pytest

from common import progress
from common.progress import Bar


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


def test_a_short_loop_is_not_told_of(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "gramlab")
    assert list(Bar(range(3), desc="features")) == [0, 1, 2]
    assert not caplog.records


def test_a_terminal_gets_a_bar_that_vanishes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for _ in Bar(range(3), desc="features", mininterval=0, ascii=True):
        pass
    shown = capsys.readouterr().err
    assert "features: 100%" in shown
    assert shown.endswith("\r")
