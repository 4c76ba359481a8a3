import os
import subprocess
import sys
from pathlib import Path

import pytest

from common.command import Parser, answer, columns
from common.errors import BadInput
from common.unwritable import Unwritable

ENDS = """
import atexit, gc, sys, tempfile, threading, time
from common.command import answer, end
from common.interrupts import listen
listen()
class Kept:
    def __del__(self):
        print("taken apart")
kept, folder = Kept(), tempfile.TemporaryDirectory()
atexit.register(print, "called")
threading.Thread(target=lambda: time.sleep(0.2) or print("waited for")).start()
print(folder.name, gc.isenabled())
end(answer(lambda: print(gc.isenabled()) or 7))
"""
NOBODY_LISTENS = "listener = select.poll(); listener.register(1, 0); listener.poll()"
ROOT = Path(__file__).resolve().parents[2]
PRINTS = """
import select, sys
from common.command import answer
{until}
code = answer(lambda: print("x\\n" * {size}) or 0)
print(code, file=sys.stderr)
sys.exit(code)
"""


def test_bad_input_and_missing_files_are_one_line_and_exit_code_two(capsys):
    def refuse() -> int:
        raise BadInput("got a: want b; do c")

    assert answer(refuse) == 2
    assert capsys.readouterr().err == "gramlab: got a: want b; do c\n"
    assert answer(lambda: len(open("/nowhere/at/all").read())) == 2  # noqa: PTH123, SIM115
    assert capsys.readouterr().err.count("\n") == 1


def test_an_interrupt_is_exit_code_130_and_other_faults_are_not_hidden():
    def interrupt() -> int:
        raise KeyboardInterrupt

    assert answer(interrupt) == 130
    with pytest.raises(ZeroDivisionError):
        answer(lambda: 1 // 0)


def test_a_parser_complains_in_one_line_instead_of_printing_its_usage():
    with pytest.raises(BadInput, match="unrecognized arguments: --what; --help shows the usage"):
        Parser(prog="x").parse_args(["--what"])


def test_columns_are_aligned():
    assert columns([("a", "bb"), ("ccc", "d")]) == "a    bb\nccc  d"


def test_a_disk_that_fails_is_exit_code_two_and_says_what_the_same_command_does(capsys):
    def fails(*notes: str) -> int:
        error = Unwritable("cannot write a (full): make room there")
        for note in notes:
            error.add_note(note)
        raise error

    assert answer(fails, afterwards="rows are kept") == 2
    assert capsys.readouterr().err == "gramlab: cannot write a (full): make room there; rows are kept\n"
    assert answer(lambda: fails("it goes on from step 4"), afterwards="rows are kept") == 2
    assert capsys.readouterr().err == "gramlab: cannot write a (full): make room there; it goes on from step 4\n"


def test_an_error_of_the_system_names_its_file(capsys):
    assert answer(lambda: Path("/nowhere/at/all").stat().st_size) == 2
    assert capsys.readouterr().err == "gramlab: /nowhere/at/all: No such file or directory\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("size", [10, 10**6])
def test_who_stops_listening_ends_a_command_without_a_word(size, unbuffered):
    program = PRINTS.format(until=NOBODY_LISTENS, size=size)
    with subprocess.Popen(["sh", "-c", '"$0" -c "$1" | true; echo ended >&2', sys.executable, program],
        cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": unbuffered}
    ) as process:  # fmt: skip
        assert process.stderr is not None
        assert process.stderr.read() == "141\nended\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_on_a_full_disk_is_one_line(unbuffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", PRINTS.format(until="", size=10)],
            cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False,
        )  # fmt: skip
    assert done.stderr == "gramlab: standard output: No space left on device\n2\n"
    assert done.returncode == 2


def test_a_command_ends_as_python_does_but_for_taking_apart_what_was_imported():
    """Nor does it look for garbage while it imports."""
    done = subprocess.run([sys.executable, "-c", ENDS], cwd=ROOT, capture_output=True, text=True, check=False)
    first, *others = done.stdout.splitlines()
    assert (others, done.stderr, done.returncode) == (["True", "waited for", "called"], "", 7)
    folder, enabled = first.split()
    assert enabled == "False"
    assert not Path(folder).exists()
