"""What bash, zsh and fish complete behind `gramlab`, asked through argcomplete's own door in new processes."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import argcomplete
import pytest

from common.bounds import described
from evals.arguments import ADDRESSES, tasks
from evals.backbones import addresses
from evals.tasks.methods import TASKS
from harness import cli
from harness.listed_settings import listed, overrides
from harness.settings import Experiment
from harness.settings_pages import written
from reports.arguments import FORMATS
from reports.tables import READ, WRITERS

ROOT = Path(__file__).resolve().parents[2]
BREAKS = " \t\n\"'><=;|&(:"  # of bash


@pytest.fixture
def complete(tmp_path):
    """From a command line up to the cursor to the words that a shell is offered, asked in a folder with a run."""
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "experiment.json").write_text("{}")
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".hidden").mkdir()

    def ask(line: str, shell: str = "bash") -> list[str]:
        answered = tmp_path / "answered"
        asked = {
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": "\n",
            "_ARGCOMPLETE_SHELL": shell,
            "_ARGCOMPLETE_STDOUT_FILENAME": str(answered),
            "_ARGCOMPLETE_SUPPRESS_SPACE": "1",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "COMP_TYPE": "63",
            **({"_ARGCOMPLETE_COMP_WORDBREAKS": BREAKS} if shell == "bash" else {"_ARGCOMPLETE_DFS": "\t"}),
        }
        command = [sys.executable, str(ROOT / "harness" / "cli.py")]
        answered.write_text("")
        subprocess.run(command, cwd=tmp_path, env=os.environ | asked, check=False, timeout=60)
        return [word for word in answered.read_text().split("\n") if word]

    return ask


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_command_is_completed_in_every_shell(complete, shell):
    words = [re.split(r"\t|(?<!\\):", word)[0] for word in complete("gramlab ", shell)]
    assert words == [*cli.COMMANDS]


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("gramlab ru", ["run"]),
        ("gramlab run --pl", ["--plan"]),
        ("gramlab run ", ["mine.yaml", "runs/"]),
        ("gramlab run mine.yaml gram.weight_", ["gram.weight_end="]),
        ("gramlab run mine.yaml --plan gram.weight_", ["gram.weight_end="]),
        ("gramlab run mine.yaml steps=3 gram.weight_", ["gram.weight_end="]),
        ("gramlab run mine.yaml ibot.per=", ["crop", "masked_crop"]),
        ("gramlab run mine.yaml model=vit", ["vit7b", "vitb", "vitl", "vits"]),
        ("gramlab status ", ["runs/", "runs/mine"]),
        ("gramlab status runs/", ["runs/mine", "runs/mine/"]),
        ("gramlab eval random:x logr", ["logreg"]),
        ("gramlab eval random:x knn --device ", ["auto", "cpu", "cuda"]),
        ("gramlab tables runs/mine --to ", [*FORMATS]),
        ("gramlab new ", []),
        ("gramlab new mine --axis ", ["batching", "gram", "resolution", "update"]),
        ("gramlab new mine --images ", ["runs/", "scenes"]),
        ("gramlab doctor --", ["--help", "--json"]),
        ("gramlab look imag", ["imagenette"]),
    ],
)
def test_commands_options_files_runs_and_settings_are_completed(complete, line, offered):
    assert sorted(complete(line)) == sorted(offered)


def test_what_settings_mean_is_told_where_a_shell_shows_it(complete):
    assert complete("gramlab run mine.yaml gram.weight_", "fish") == [
        "gram.weight_end=\tweight at `schedule.end_step`, on the way there from the end of the warm-up in the "
        "`schedule.shape`"
    ]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("line", "offered"), [("gramlab comp", ["compare "]), ("gramlab run mine.yaml gram.weight_", ["gram.weight_end="])]
)
def test_bash_itself_completes_with_the_line_that_the_docs_give(tmp_path, line, offered):
    command = tmp_path / "gramlab"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} {ROOT}/harness/cli.py "$@"\n')
    command.chmod(0o755)
    program = f"""
{argcomplete.shellcode(["gramlab"], shell="bash")}
complete -p gramlab | grep -q _python_argcomplete || exit 1
COMP_WORDBREAKS=$' \\t\\n"\\'><=;|&(:'
COMP_LINE={line!r}; COMP_POINT=${{#COMP_LINE}}; COMP_WORDS=($COMP_LINE); COMP_TYPE=9
_python_argcomplete gramlab 2>/dev/null
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == offered


def test_settings_are_listed_as_their_classes_have_them():
    assert {(one.key, one.default) for one in listed()} == {(s.key, written(s.default)) for s in described(Experiment)}


def test_every_key_but_those_with_names_of_ones_own_is_offered():
    keys = {f"{setting.key}=" for setting in described(Experiment) if "NAME" not in setting.key}
    assert keys <= overrides("").keys()
    assert {"model=", "recipe=", "evals="} <= overrides("").keys()


def test_values_are_offered_where_a_setting_lists_them():
    assert [*overrides("dino.head.unit_prototypes=")] == [f"dino.head.unit_prototypes={x}" for x in ("true", "false")]
    assert "gram.teacher=ema" in overrides("gram.teacher=")
    assert "steps=null" not in overrides("steps=")
    assert overrides("no.such.key=") == {}


def test_the_words_that_are_listed_without_torch_are_those_of_the_tables():
    assert tasks() == sorted(TASKS)
    assert [*FORMATS] == [*WRITERS, *READ]
    assert set(ADDRESSES) == {f"{kind}:" for kind in addresses.ADDRESSES}


def test_a_question_of_a_shell_imports_nothing_that_takes_seconds():
    program = (
        "import sys\nfrom harness import cli\nfrom harness.listed_settings import overrides\n"
        "for name in cli.COMMANDS:\n    cli.whole_parser([name, ''])\noverrides('gram.')\nimport argcomplete\n"
        "print([name for name in ('torch', 'timm', 'pandas', 'matplotlib', 'omegaconf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
