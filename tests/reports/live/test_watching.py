"""A report that follows its run."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from common.errors import BadInput
from reports.live import watching
from reports.live.watching import following, rest_after

ROOT = Path(__file__).resolve().parents[3]
SMALL = {"steps": 40, "trunk_steps": 20, "every": 10, "arms": {"plain": {}, "anchored": {"gram.weight": 2.0}}}


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Pages are made whenever something has changed, however long the last one took."""
    monkeypatch.setattr(watching, "rest_after", lambda took: 0.0)


def add_a_row(folder, **changes):
    table = folder / "results.jsonl"
    last = json.loads(table.read_text().splitlines()[-1])
    table.write_text(table.read_text() + json.dumps(last | changes) + "\n")


def test_the_page_is_made_anew_when_the_tables_change_and_only_then(make_run):
    folder = make_run(**SMALL)
    with following(folder) as page:
        assert page.refresh()
        first = page.server.version
        assert b"Does Gram anchoring" in page.server.page
        assert not page.refresh()
        add_a_row(folder, step=50)
        assert page.refresh()
        assert page.server.version != first
        assert b"50" in page.server.page


def test_changed_tables_wait_until_the_training_has_had_its_rest(make_run, monkeypatch):
    folder = make_run(steps=40, trunk_steps=20, every=10)
    monkeypatch.setattr(watching, "rest_after", lambda took: float("inf"))
    with following(folder) as live:
        assert live.refresh()
        os.utime(folder / "results.jsonl", ns=(1, 1))
        assert not live.refresh()
        monkeypatch.setattr(watching, "rest_after", lambda took: 0.0)
        assert live.refresh()


@pytest.mark.parametrize("took", [0.01, 1.0, 2.0, 5.0, 20.0, 90.0])
def test_pages_have_a_small_share_of_the_time_and_half_at_most_however_slow_they_are(took):
    rest = rest_after(took)
    assert rest <= max(20.0, took)
    assert took / (took + rest) <= (0.1 if took <= 2.0 else 0.5)


def test_a_table_that_is_damaged_leaves_the_page_that_there_is(make_run):
    folder = make_run(**SMALL)
    with following(folder) as page:
        page.refresh()
        before = page.server.page
        (folder / "experiment.json").write_text("{cut sho")
        assert page.refresh()
        assert page.server.page == before


def test_a_figure_that_fails_leaves_the_page_that_there_is_and_is_said(make_run, monkeypatch, caplog):
    folder = make_run(**SMALL)
    with following(folder) as page:
        page.refresh()
        before = page.server.page
        monkeypatch.setattr(watching, "twin", lambda *_: [][1])
        add_a_row(folder, step=50)
        assert page.refresh()
        assert page.server.page == before
    assert "no new page (IndexError: " in caplog.text


def test_a_run_that_has_measured_nothing_yet_is_waited_for(make_run, tmp_path):
    with following(tmp_path) as page:
        page.refresh()
        assert b"got no experiment.json" in page.server.page
    with pytest.raises(BadInput, match="got no folder"), following(tmp_path / "none"):
        pass


def test_a_folder_may_have_any_name(tmp_path):
    folder = tmp_path / "<b>WHY\udcf6"
    folder.mkdir()
    with following(folder) as page:
        assert b"<h1>&lt;b&gt;WHY\\xf6</h1>" in page.server.page
        assert page.told.startswith("<b>WHY\\xf6, live: http://127.0.0.1:")


def test_training_curves_alone_make_a_page_only_now_and_then(make_run, monkeypatch):
    folder = make_run(**SMALL)
    curve = folder / "plain-s0" / "metrics.jsonl"
    with following(folder) as page:
        page.refresh()
        curve.write_text(curve.read_text() + curve.read_text().splitlines()[-1] + "\n")
        assert not page.refresh()
        monkeypatch.setattr(watching, "CURVES_EVERY", 0.0)
        assert page.refresh()


@pytest.mark.slow
@pytest.mark.usefixtures("signals_heard")
def test_the_command_serves_until_ctrl_c_and_writes_nothing(make_run):
    folder = make_run(**SMALL)
    before = sorted(path.name for path in folder.rglob("*"))
    command = [sys.executable, str(ROOT / "reports" / "build.py"), str(folder), "--watch"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "DISPLAY": ""}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as ran:
        said = ran.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+/", said)[0]
        assert "for this machine alone" in said
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert answer.status == 200
        ran.send_signal(signal.SIGINT)
        _, error = ran.communicate(timeout=60)
    assert (ran.returncode, error) == (0, "")
    assert sorted(path.name for path in folder.rglob("*")) == before
