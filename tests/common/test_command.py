import pytest

from common.command import Parser, answer, columns
from common.errors import BadInput


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
