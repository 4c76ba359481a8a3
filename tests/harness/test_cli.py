"""The command `gramlab` answers for itself at once, and hands its arguments to the scripts."""

import os
import pty
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import pytest

from common.command import parsed
from harness import bench, cli

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_lists_every_command(arguments, capsys):
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f"  {name}" in out for name in cli.COMMANDS)


def test_help_gives_each_command_an_example_that_it_understands(capsys):
    cli.main(["--help"])
    out = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert f" gramlab {name} {command.example}\n" in out
        words = shlex.split(command.example)
        parsed(command.arguments, name, words[:1] if command.passes_on else words)


def test_a_benchmark_is_told_what_stands_behind_its_name(capfd):
    assert cli.main(["bench", "step", "--help"]) == 0
    assert "--precision" in capfd.readouterr().out


def test_benchmarks_are_listed_and_an_unknown_one_is_refused_in_one_line(capsys):
    assert cli.main(["bench"]) == 0
    assert "step" in capsys.readouterr().out
    assert cli.main(["bench", "nothing"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "got benchmark 'nothing': want one of" in line
    assert cli.main(["bench", "stp"]) == 2
    assert capsys.readouterr().err.endswith("; did you mean 'step'?\n")


@pytest.mark.parametrize("told", [[], ["step"], ["nothing"]], ids=str)
def test_without_a_checkout_there_are_no_benchmarks_which_is_said_in_one_line(capsys, monkeypatch, tmp_path, told):
    monkeypatch.setattr(bench, "FOLDER", tmp_path / "benchmarks")
    assert cli.main(["bench", *told]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert "no benchmarks/ beside" in line
    assert "want a checkout of the project" in line


def test_commands_of_one_purpose_stand_together():
    purposes = [command.purpose for command in cli.COMMANDS.values()]
    assert len([*groupby(purposes)]) == len(set(purposes))


@pytest.mark.parametrize(
    ("word", "do"),
    [
        ("ran", "did you mean 'run'?"),
        ("xyz", "--help tells what they do"),
        ("experiments/gram_ablation.yaml", "did you mean `gramlab run experiments/gram_ablation.yaml`?"),
    ],
)
def test_an_unknown_command_lists_the_known_ones_and_the_nearest(word, do, capsys):
    assert cli.main([word]) == 2
    captured = capsys.readouterr()
    assert captured.err == f"gramlab: unknown command '{word}': want one of {', '.join(cli.COMMANDS)}; {do}\n"
    assert captured.out == ""


def test_the_version_is_that_of_the_project(capsys):
    assert cli.main(["--version"]) == 0
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert capsys.readouterr().out == f"gramlab {project['version']}\n"


def test_an_unknown_option_names_the_nearest(capsys):
    assert cli.main(["run", "x.yaml", "--plann"]) == 2
    assert capsys.readouterr().err == "gramlab: unrecognized arguments: --plann; did you mean '--plan'?\n"


@pytest.mark.parametrize(
    ("part", "said"), [("gamr", "did you mean 'gram'?"), ("nothing like it", "--settings alone shows all")]
)
def test_settings_that_no_key_is_like_are_refused(part, said, capsys):
    assert cli.main(["run", "--settings", part]) == 2
    assert capsys.readouterr().err == f"gramlab: --settings {part}: no key has it in it: want a part of one; {said}\n"


def loaded(*arguments: str, **environment: str) -> set[str]:
    """The packages that a new process has imported when `gramlab` has answered these arguments."""
    program = (
        "import atexit, runpy, sys\n"
        "atexit.register(lambda: print('', *{name.partition('.')[0] for name in sys.modules}, sep='\\nLOADED '))\n"
        "runpy.run_path('harness/cli.py', run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | environment,
    )  # fmt: skip
    assert "Traceback" not in done.stderr or "SystemExit" in done.stderr, done.stderr
    found = set(re.findall(r"^LOADED (\w+)$", done.stdout, re.MULTILINE))
    assert "sys" in found
    return found


HEAVY = {"torch", "torchvision", "timm", "pandas", "matplotlib", "mmseg", "mmengine", "sklearn", "scipy", "pyarrow",
         "omegaconf", "hydra", "optuna"}  # fmt: skip


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command_imports_nothing_that_takes_seconds(name):
    assert loaded(name, "--help") & HEAVY == set()


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], ["ran"], ["run", "--settings"], ["run", "x.yaml", "--plann"], ["sweep"], ["tables"]],
)
def test_what_is_answered_without_a_command_imports_nothing_that_takes_seconds(arguments):
    assert loaded(*arguments) & HEAVY == set()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["run", "--settings"], ["ran"]])
def test_nothing_is_coloured_in_a_terminal_that_asks_for_no_colour(arguments):
    terminal, theirs = pty.openpty()
    command = [sys.executable, "harness/cli.py", *arguments]
    environment = os.environ | {"NO_COLOR": "1", "TERM": "xterm-256color"}
    with subprocess.Popen(command, cwd=ROOT, stdout=theirs, stderr=theirs, env=environment):
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # what a terminal says when nobody writes to it any more
            while part := os.read(terminal, 1 << 16):
                shown += part
    os.close(terminal)
    assert b"gramlab" in shown or b"gram.weight" in shown
    assert b"\x1b" not in shown


def test_what_a_command_has_imported_is_seen():
    assert {"pandas", "matplotlib"} <= loaded("report", "nowhere")


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
