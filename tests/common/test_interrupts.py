"""Signals end a command in one line and with its exit code: while it imports, works, cleans up, and in workers."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from common.command import answer
from common.interrupts import REQUESTS, RESUME, WARNINGS, Interrupted, Leaving, interruptible, resumable

pytestmark = pytest.mark.usefixtures("signals_heard")

ROOT = Path(__file__).resolve().parents[2]
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129, signal.SIGUSR1: 75, signal.SIGUSR2: 75}
WORDS = {number: f"interrupted by {number.name}" for number in CODES} | {signal.SIGINT: "interrupted"}
BEGIN = "import sys, time\nfrom common.command import answer\nfrom common.interrupts import listen\nlisten()\n"
WORK = """
def work():
    try:
        print("at work", flush=True)
        time.sleep(60)
    finally:
        {cleanup}
    return 0
sys.exit(answer(work, afterwards="go on"))
"""
ASKED = """
from common import interrupts
from common.interrupts import is_asked_to_leave, leave_if_asked, resumable
interrupts.BROKEN_OFF, interrupts.ENDED, interrupts.ECHO = {broken_off}, {ended}, {echo}
def work():
    with resumable():
        print("at work", flush=True)
        {work}
    return 0
sys.exit(answer(work, afterwards="go on"))
"""
HEARS = "\n        while not is_asked_to_leave(): time.sleep(0.01)\n        print('asked', flush=True)\n        "


def asked(work: str, *, broken_off: float = 60.0, ended: float = 90.0, echo: float = 0.0) -> subprocess.Popen[str]:
    """A program that is at work and can be asked to leave."""
    return begun(BEGIN + ASKED.format(work=work, broken_off=broken_off, ended=ended, echo=echo))


def begun(program: str, *, before: str = "") -> subprocess.Popen[str]:
    """A process group of its own that has printed a line."""
    command = ["sh", "-c", f'{before} exec "$0" -c "$1"', sys.executable, program]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    process = subprocess.Popen(command, cwd=ROOT, **pipes, text=True, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_a_command_imports_is_one_line(number: signal.Signals):
    process = begun(BEGIN + "print('listening', flush=True)\ntime.sleep(60)\n")
    process.send_signal(number)
    assert process.communicate()[1] == f"gramlab: {WORDS[number]} before anything was begun\n"
    assert process.returncode == CODES[number]


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_a_command_works_is_one_line_that_tells_what_to_do(number: signal.Signals):
    process = begun(BEGIN + WORK.format(cleanup="pass"))
    process.send_signal(number)
    assert process.communicate()[1] == f"gramlab: {WORDS[number]}; go on\n"
    assert process.returncode == CODES[number]


def test_signals_that_come_during_the_cleanup_leave_it_alone():
    process = begun(
        BEGIN + WORK.format(cleanup="print('cleans', flush=True); sys.stdin.readline(); print('clean', flush=True)")
    )
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "cleans\n"
    for number in CODES:
        process.send_signal(number)
    assert process.communicate("end of the cleanup\n") == ("clean\n", "gramlab: interrupted; go on\n")
    assert process.returncode == 130


def test_a_signal_that_was_to_be_ignored_stays_ignored():
    process = begun(
        BEGIN + "print(answer(lambda: print('at work', flush=True) or len(sys.stdin.readline())))",
        before="trap '' HUP;",
    )
    process.send_signal(signal.SIGHUP)
    assert process.communicate("works on") == ("8\n", "")


def test_an_interruption_that_python_drops_comes_back_and_is_no_noise():
    """As it does where one is raised while an object is removed, such as a loader that waits for its workers."""
    lost = "class Slow:\n    def __del__(self):\n        print('removes', flush=True)\n        time.sleep(60)\n"
    process = begun(BEGIN + lost + "def work():\n    Slow()\n    time.sleep(60)\n    return 0\nsys.exit(answer(work))")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1].startswith("gramlab: interrupted by SIGTERM; the same command")
    assert process.returncode == 143


def test_an_interruption_that_python_drops_is_not_lost_to_others_that_come_meanwhile():
    lost = (
        "import os, signal, threading\n"
        "class Slow:\n    def __del__(self):\n        print('removes', flush=True)\n        time.sleep(60)\n"
        "class Shaken(threading.Timer):\n"  # another signal comes while the first one is about to be sent again
        "    def start(self):\n        super().start()\n        signal.raise_signal(signal.SIGTERM)\n"
        "threading.Timer = Shaken\n"
    )
    process = begun(BEGIN + lost + "def work():\n    Slow()\n    time.sleep(60)\n    return 0\nsys.exit(answer(work))")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1].startswith("gramlab: interrupted by SIGTERM; the same command")
    assert process.returncode == 143


def test_a_worker_that_dies_as_the_signal_is_heard_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    """torch tells of it by an error in the main thread, which may come in the midst of what answers the signal."""
    set_handler, died = signal.signal, iter([True])

    def die(*_: object) -> None:
        raise RuntimeError("DataLoader worker is killed by signal: Terminated")

    def shaken(number: int, handler: Any) -> Any:
        if number == signal.SIGCHLD and next(died, False):
            signal.raise_signal(signal.SIGCHLD)
        return set_handler(number, handler)

    before = signal.signal(signal.SIGCHLD, die)
    monkeypatch.setattr(signal, "signal", shaken)
    with pytest.raises(Interrupted), interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert set_handler(signal.SIGCHLD, before) is die


@pytest.mark.parametrize("number", CODES)
def test_a_signal_while_workers_are_started_is_one_line(number: signal.Signals):
    """Each of them sends it as it begins."""
    program = BEGIN + (
        "import os, warnings\nfrom common.workers import batches\nwarnings.simplefilter('ignore')\n"
        f"def first():\n    os.kill(os.getppid(), {int(number)})\n"
        "def work():\n    print('at work', flush=True)\n"
        "    for index in batches(int, 1000, workers=4, at_start=first): time.sleep(0.1)\n    return 0\n"
        "sys.exit(answer(work))"
    )
    process = begun(program)
    assert process.communicate(timeout=60)[1] == (
        f"gramlab: {WORDS[number]}; the same command goes on with what is left to do\n"
    )
    assert process.returncode == CODES[number]


@pytest.mark.parametrize("number", CODES)
def test_worker_processes_say_nothing_whoever_the_signal_reaches(number: signal.Signals):
    program = BEGIN + (
        "from common.workers import batches\n"
        "def make(index):\n    time.sleep(0.05)\n    return index\n"
        "def work():\n    for index in batches(make, 1000, workers=2): print(index, flush=True)\n"
        "sys.exit(answer(work))"
    )
    process = begun(program)
    os.killpg(process.pid, number)
    said = process.communicate(timeout=60)[1]
    assert said == f"gramlab: {WORDS[number]}; the same command goes on with what is left to do\n"
    assert process.returncode == CODES[number]


def test_notes_of_an_interruption_tell_more_than_the_command_knows(capsys: pytest.CaptureFixture[str]):
    def work() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except Interrupted as error:
            error.add_note("it goes on from step 4")
            raise
        return 0

    assert answer(work) == 143
    assert capsys.readouterr().err == "gramlab: interrupted by SIGTERM; it goes on from step 4\n"


def test_handlers_and_hooks_are_what_they_were_afterwards():
    numbers = (*CODES, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers], sys.unraisablehook
    with pytest.raises(KeyboardInterrupt), interruptible():
        signal.raise_signal(signal.SIGHUP)
    assert ([signal.getsignal(number) for number in numbers], sys.unraisablehook) == before


@pytest.mark.parametrize("number", REQUESTS)
def test_who_is_asked_to_leave_does_so_at_the_next_good_moment_with_a_code_that_says_resume_me(number: signal.Signals):
    process = asked("while True: leave_if_asked(lambda: print('saved', flush=True)); time.sleep(0.01)")
    process.send_signal(number)
    assert process.communicate(timeout=60) == ("saved\n", f"gramlab: asked to leave by {number.name}; go on\n")
    assert process.returncode == RESUME == 75


@pytest.mark.parametrize("number", REQUESTS)
def test_what_takes_too_long_is_broken_off(number: signal.Signals):
    process = asked("time.sleep(600)", broken_off=0.1)
    process.send_signal(number)
    said = process.communicate(timeout=60)[1]
    assert re.fullmatch(rf"gramlab: asked to leave by {number.name}, broken off after \d+ s; go on\n", said)
    assert process.returncode == RESUME


def test_what_is_saved_on_the_way_out_is_not_broken_off():
    process = asked(HEARS + "leave_if_asked(lambda: time.sleep(6) or print('saved', flush=True))", broken_off=5.0)
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60) == ("asked\nsaved\n", "gramlab: asked to leave by SIGTERM; go on\n")
    assert process.returncode == RESUME


def test_what_cannot_even_be_broken_off_is_ended():
    process = asked(
        "\n        while True:\n            try: time.sleep(600)\n            except BaseException: pass",
        broken_off=0.1,
        ended=0.2,
    )
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[1]
    wanted = r"gramlab: asked to leave by SIGTERM, ended after \d+ s; the same command goes on from its last state\n"
    assert re.fullmatch(wanted, said)
    assert process.returncode == RESUME


@pytest.mark.parametrize("number", sorted({*CODES} - {*WARNINGS}))
def test_after_a_request_ctrl_c_and_a_second_sigterm_end_at_once(number: signal.Signals):
    process = asked(HEARS + "time.sleep(600)")
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    process.send_signal(number)
    assert process.communicate(timeout=60)[1] == f"gramlab: {WORDS[number]}; go on\n"
    assert process.returncode == CODES[number]


def test_a_request_that_comes_again_is_the_same_one():
    process = asked(HEARS + "sys.stdin.readline()\n        leave_if_asked()", echo=600.0)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "asked\n"
    for number in (*REQUESTS, *REQUESTS):
        process.send_signal(number)
    assert process.communicate("leave\n", timeout=60)[1] == "gramlab: asked to leave by SIGTERM; go on\n"
    assert process.returncode == RESUME


def test_what_comes_to_its_end_before_it_can_leave_is_done():
    process = asked(HEARS.rstrip())
    process.send_signal(signal.SIGUSR1)
    assert process.communicate(timeout=60) == ("asked\n", "")
    assert process.returncode == 0


def test_a_request_that_python_drops_breaks_off_all_the_same():
    """As `test_an_interruption_that_python_drops_comes_back_and_is_no_noise`."""
    lost = "class Slow:\n    def __del__(self):\n        print('removes', flush=True)\n        time.sleep(60)\n"
    process = begun(BEGIN + lost + ASKED.format(work="Slow(); time.sleep(600)", broken_off=0.1, ended=90.0, echo=0.0))
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[1].startswith("gramlab: asked to leave by SIGTERM, broken off after ")
    assert process.returncode == RESUME


@pytest.mark.parametrize("number", REQUESTS)
def test_a_request_that_reaches_worker_processes_too_is_one_line(number: signal.Signals):
    work = (
        "\n        from common.workers import batches"
        "\n        for index in batches(lambda index: time.sleep(0.05) or index, 1000, workers=2):"
        "\n            print(index, flush=True)"
        "\n            leave_if_asked()"
    )
    process = asked(work)
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, number)
    assert process.communicate(timeout=60)[1] == f"gramlab: asked to leave by {number.name}; go on\n"
    assert process.returncode == RESUME


def test_afterwards_all_signals_are_what_they_were():
    numbers = (*CODES, *REQUESTS, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    with resumable():
        signal.raise_signal(signal.SIGTERM)
    assert [signal.getsignal(number) for number in numbers] == before


@pytest.mark.parametrize("error", [Interrupted(signal.SIGTERM), Leaving(signal.SIGUSR1, " and broken off")])
def test_other_processes_can_be_told_of_an_interruption(error: Interrupted):
    told = pickle.loads(pickle.dumps(error))
    assert (type(told), str(told), told.code, told.number) == (type(error), str(error), error.code, error.number)
