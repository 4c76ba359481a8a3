"""The command `gramlab` hands its arguments to the scripts."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness import cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_every_command(arguments, capsys):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in cli.COMMANDS)


def test_an_unknown_command_lists_the_known_ones(capsys):
    assert cli.main(["ran"]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"gramlab: unknown command 'ran'; known: {', '.join(cli.COMMANDS)}\n"
    assert captured.out == ""


def test_help_ends_without_a_word_where_nobody_reads_it():
    command = ["sh", "-c", '"$0" harness/cli.py | true', sys.executable]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("", "")


def test_run_is_the_main_job(write_tiny, capsys):
    assert cli.main(["run", "missing.yaml"]) == 2
    assert "no experiment file missing.yaml" in capsys.readouterr().err
    assert cli.main(["run", str(write_tiny(steps=3)), "--plan"]) == 0
    assert "experiment tiny" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"), [(["eval", "nowhere", "knn"], "nowhere"), (["report", "nowhere"], "nowhere")]
)
def test_the_other_commands_refuse_in_one_line(arguments, said, capsys):
    assert cli.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("gramlab: ")
    assert err.count("\n") == 1
    assert said in err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there_and_has_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out
