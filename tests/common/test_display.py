"""A block at the foot of a terminal, as somebody before it sees it."""

from __future__ import annotations

import io
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from common import display, progress
from common.display import shown
from common.progress import Bar, log, telling, tick
from tests.terminal import COLOUR, Terminal

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """A terminal of 40 columns, on which a block is drawn whenever it may be."""
    monkeypatch.setattr(display, "EVERY", 0.0)
    monkeypatch.setattr(display, "SHARE", float("inf"))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Terminal(40, 12) as found:
        yield found


class Counted:
    """Content that counts how often it was asked for."""

    def __init__(self, *lines: str) -> None:
        self.asked, self.lines = 0, lines

    def __call__(self, console: Console) -> RenderableType:
        self.asked += 1
        return Text("\n".join([*self.lines, f"drawn {self.asked}"]))


def test_a_block_is_drawn_anew_in_place_while_lines_scroll_above_it(terminal):
    with terminal.stderr(), telling(), shown(Counted("a job")):
        terminal.shows("a job\ndrawn 1")
        tick()
        terminal.shows("a job\ndrawn 2")
        log.info("a line of the log")
        terminal.shows("a line of the log\na job\ndrawn 2")
        print("a line of another's", file=sys.stderr)
        terminal.shows("a line of the log\na line of another's\na job\ndrawn 2")
        log.warning("long " * 10)
        tick()
        terminal.shows(
            "a line of the log\na line of another's\nlong long long long long long long long\nlong long\na job\ndrawn 3"
        )
    log_alone = "a line of the log\na line of another's\nlong long long long long long long long\nlong long"
    terminal.shows(log_alone)
    terminal.ended()
    assert (terminal.screen.cursor.y, terminal.screen.cursor.x) == (4, 0)


def test_bars_of_other_libraries_leave_one_line_and_text_without_an_end_is_not_lost(terminal):
    with terminal.stderr(), shown(Counted("a job")):
        for share in (0, 50, 100):
            sys.stderr.write(f"\r\x1b[Afile: {share} %")
            sys.stderr.flush()
            terminal.shows("a job\ndrawn 1")
        sys.stderr.write("\nhalf a line")
        terminal.shows("file: 100 %\na job\ndrawn 1")
    terminal.shows("file: 100 %\nhalf a line")


def test_what_goes_to_a_file_by_stdout_goes_there(terminal, capsys):
    with terminal.stderr(), shown(Counted()):
        print("a table")
    assert capsys.readouterr().out == "a table\n"
    terminal.shows("")


def test_what_is_drawn_lower_than_before_leaves_nothing_behind(terminal):
    lines = ["one", "two", "three", "four"]
    with terminal.stderr(), shown(lambda console: Text("\n".join(lines))):
        terminal.shows("one\ntwo\nthree\nfour")
        del lines[1:]
        tick()
        terminal.shows("one")
    terminal.shows("")


def test_the_log_of_a_file_is_as_without_a_block(terminal, tmp_path):
    with terminal.stderr(), telling(tmp_path / "log.txt"), shown(Counted()), Bar(total=3, desc="features") as bar:
        bar.update()
        log.info("a line")
    assert [line.split("  ", 1)[1] for line in (tmp_path / "log.txt").read_text().splitlines()] == ["a line"]


@pytest.mark.parametrize("term", ["dumb", "unknown"])
def test_a_terminal_that_cannot_redraw_gets_lines_alone(term, terminal, monkeypatch):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(progress, "SILENCE", 0.0)
    content = Counted()
    with terminal.stderr(), telling(), shown(content), Bar(total=3, desc="features", unit="image") as bar:
        tick()
        bar.update(2)
    terminal.shows(lambda text: text.endswith("/s"))
    assert terminal.raw.startswith(b"features: 2 of 3, ")
    assert b"\x1b" not in terminal.raw
    assert content.asked == 0


def test_a_file_gets_lines_alone(monkeypatch, capsys):
    content = Counted()
    with telling(), shown(content):
        tick()
        log.info("a line")
    assert capsys.readouterr().err == "a line\n"
    assert content.asked == 0


def test_another_width_of_the_terminal_is_taken_at_the_next_drawing(terminal):
    words = "some words that are wrapped where they are too long"
    with terminal.stderr(), telling(), shown(lambda console: Text(words)):
        log.info("a line")
        terminal.shows("a line\nsome words that are wrapped where they\nare too long")
        terminal.resize(60)
        tick()
        terminal.shows(f"a line\n{words}")
        terminal.resize(30)
        tick()
        terminal.shows("a line\nsome words that are wrapped\nwhere they are too long")
        terminal.resize(20)
        log.info("another")
        terminal.shows("a line\nanother\nsome words that are\nwrapped where they\nare too long")
    terminal.shows("a line\nanother")


@pytest.mark.parametrize(("value", "coloured"), [("1", False), ("0", False), ("", True)])
def test_no_color_takes_the_colours_and_leaves_the_words(value, coloured, terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", value)
    with terminal.stderr(), shown(lambda console: Text("1 failed", style="red")):
        terminal.shows("1 failed")
    assert bool(COLOUR.search(terminal.raw)) == coloured


def test_an_error_leaves_the_terminal_to_whoever_tells_of_it(terminal):
    def fails() -> None:
        log.info("a line")
        raise KeyError

    with terminal.stderr():
        with pytest.raises(KeyError), telling(), shown(Counted()):
            fails()
        terminal.shows("a line")
        assert sys.stderr is terminal.file
        log.info("nobody hears this")
        with telling():
            log.info("as ever")
    terminal.shows("a line\nas ever")


def test_the_last_state_stays_where_that_is_wanted(terminal):
    with terminal.stderr(), shown(Counted("a job"), stays=True):
        tick()
    terminal.file.write("prompt")
    terminal.file.flush()
    terminal.shows("a job\ndrawn 3\nprompt")


def test_what_fails_to_be_shown_is_told_and_ends_nothing(terminal):
    def content(console: Console) -> RenderableType:
        raise KeyError("no such job")

    with terminal.stderr(), telling(), shown(content):
        log.info("goes on")
        terminal.shows("goes on\nnothing to be shown: 'no such job'")


def test_the_cursor_is_there_for_whoever_is_left_with_the_terminal(terminal):
    with terminal.stderr(), shown(Counted()):
        terminal.shows("drawn 1")
        assert not terminal.screen.cursor.hidden


def test_it_is_drawn_once_a_second_at_most_and_seldom_where_that_takes_long(terminal, monkeypatch):
    monkeypatch.setattr(display, "EVERY", 3600.0)
    content = Counted()
    with terminal.stderr(), shown(content), Bar(total=10**6, mininterval=0.0) as bar:
        for _ in range(100):
            bar.update()
    assert content.asked == 1
    monkeypatch.setattr(display, "EVERY", 0.0)
    monkeypatch.setattr(display, "SHARE", 1e-9)
    with terminal.stderr(), shown(content := Counted()):
        for _ in range(100):
            tick()
    assert content.asked == 1


def test_a_bar_is_told_of_by_the_block_alone_until_it_ends(terminal):
    def content(console: Console) -> RenderableType:
        return Text("\n".join(f"{bar.of} {bar}"[:26] for bar in progress.under_way()))

    with terminal.stderr(), shown(content):
        with Bar(total=4, desc="job", of="plain-s0") as outer:
            with Bar(total=9, desc="bars are equal", mininterval=0.0) as inner:
                inner.update(3)
                outer.refresh()
                terminal.shows("plain-s0 job: 0 of 4, ? le\nNone bars are equal: 3 of")
            outer.refresh()
            terminal.shows("plain-s0 job: 0 of 4, ? le")
        assert progress.under_way() == []


def test_lines_of_other_threads_are_whole_and_in_their_order(terminal):
    def tell(name: str) -> None:
        for number in range(4):
            log.info("%s %d", name, number)

    with terminal.stderr(), telling(), shown(Counted("a job")):
        threads = [threading.Thread(target=tell, args=(name,)) for name in ("one", "two")]
        for thread in threads:
            thread.start()
        for _ in range(20):
            tick()
        for thread in threads:
            thread.join()
        terminal.shows(lambda text: text.endswith("a job\ndrawn 21"))
    lines = terminal.shows(lambda text: len(text.splitlines()) == 8).splitlines()
    for name in ("one", "two"):
        assert [line for line in lines if line.startswith(name)] == [f"{name} {number}" for number in range(4)]


PROGRAM = """
import sys, time
from rich.text import Text
from common.command import answer
from common.display import shown
from common.progress import log, telling
def act():
    with telling(), shown(lambda console: Text('a job\\nand all')):
        log.info('a line')
        time.sleep(60)
    return 0
sys.exit(answer(act))
"""


def test_ctrl_c_leaves_a_clean_terminal_with_one_line_on_what_happened(signals_heard, monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    with Terminal(80, 12) as terminal:
        before = termios.tcgetattr(terminal.theirs)
        own = {"stdin": terminal.theirs, "stdout": terminal.theirs, "stderr": terminal.theirs, "cwd": ROOT}
        program = f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n{PROGRAM}"
        with subprocess.Popen([sys.executable, "-c", program], start_new_session=True, **own) as process:
            terminal.shows("a line\na job\nand all")
            terminal.type(b"\x03")
            assert process.wait(60) == 130
        said = "gramlab: interrupted; the same command goes on with what is left to do"
        terminal.shows(f"a line\n{said}")
        terminal.ended()
        assert (terminal.screen.cursor.y, terminal.screen.cursor.x, terminal.screen.cursor.hidden) == (2, 0, False)
        assert termios.tcgetattr(terminal.theirs) == before


def test_a_terminal_that_is_gone_ends_nothing(terminal, monkeypatch):
    class Gone(io.TextIOWrapper):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    with terminal.stderr(), telling(), shown(Counted()):
        monkeypatch.setattr(display.Console, "file", Gone(io.BytesIO()))
        tick()
        log.info("a line")
