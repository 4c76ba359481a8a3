"""The command `gramlab`: a thin front of the scripts, `gramlab run …` being `python harness/run.py …`.

It reads what a command was told before it imports the command: help, mistakes and completion take no seconds.
"""  # PYTHON_ARGCOMPLETE_OK

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, NoReturn

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common import completion, interrupts
from common.command import Parser, answer, end, parsed
from common.errors import BadInput, nearest
from evals import arguments as of_evals
from harness import arguments as of_harness
from reports import arguments as of_reports


class Command(NamedTuple):
    """One command: what it is for and does, an example behind its name, what it takes, and where it is carried out."""

    purpose: str
    does: str
    example: str
    arguments: Callable[[argparse.ArgumentParser], None]
    module: str
    function: str = "main"
    passes_on: bool = False  # what stands behind its first argument is read by another command


# In the order of --help
COMMANDS = {
    "new": Command(
        "Ask a question by training", "write a commented experiment file from three answers",
        "my_question --images /data/photos --axis update", of_harness.new, "harness.new",
    ),
    "run": Command(
        "Ask a question by training", "train, evaluate and report an experiment file",
        "experiments/gram_ablation.yaml --plan", of_harness.run, "harness.run",
    ),
    "sweep": Command(
        "Ask a question by training", "search over settings of an experiment file, each trial an arm of it",
        "experiments/gram_sweep.yaml --trials 20", of_harness.sweep, "harness.sweep",
    ),
    "status": Command(
        "See how far it is", "what of a run is under way, waits, failed or is done, and until when",
        "runs/gram_ablation", of_harness.status, "harness.status",
    ),
    "watch": Command(
        "See how far it is", "the same, until nothing is left to do, with the report as a page that follows the run",
        "runs/gram_ablation", of_harness.watch, "harness.watch",
    ),
    "eval": Command(
        "Judge backbones", "evaluate any backbone on frozen features",
        "timm:vit_small_patch16_dinov3.lvd1689m knn depth", of_evals.evaluate, "evals.run",
    ),
    "compare": Command(
        "Read results", "experiments side by side, or the paired difference of two evaluated checkpoints",
        "runs/gram_ablation runs/repair", of_harness.compare, "harness.compare",
    ),
    "report": Command(
        "Read results", "render the report of a run's folder again",
        "runs/gram_ablation", of_reports.report, "reports.build",
    ),
    "tables": Command(
        "Read results", "write what runs gave as tables: Parquet, CSV, LaTeX, Markdown",
        "runs/gram_ablation --to csv", of_reports.tables, "reports.tables",
    ),
    "look": Command(
        "See to the data", "draw images, masks and depth of a data set",
        "folder --root /data/photos --out sheet.png", of_evals.look, "evals.pictures.contact_sheet",
    ),
    "prepare": Command(
        "See to the data", "bring public downloads into the layouts of data sets, and check them",
        "ade20k --from downloads --to /data/ade", of_evals.prepare, "evals.prepare",
    ),
    "curate": Command(
        "See to the data", "turn a pool of images into a manifest of those worth training on",
        "experiments/curate.yaml --plan", of_harness.curate, "harness.curate",
    ),
    "doctor": Command(
        "See to this machine",
        "what is installed, what the machine can do, what is missing and what to do about it",
        "--json",
        of_harness.doctor,
        "harness.doctor.command",
    ),
    "bench": Command(
        "See to this machine", "measure how fast training steps, data and evaluations are here",
        "step --model nano", of_harness.bench, "harness.bench", passes_on=True,
    ),
    "clean": Command(
        "See to this machine", "free what no experiment asks for any more",
        "runs --plan", of_harness.clean, "harness.clean",
    ),
}  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Hand the remaining arguments to the named command; returns its exit code."""
    if argv is None:
        interrupts.listen()
    if completion.is_asked():
        completion.tell(whole_parser(completion.words_there()))
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if (command := COMMANDS.get(name)) is None:
        return answer(lambda: _front(name))
    if code := answer(lambda: _read(name, rest)):
        return code
    gc.disable()  # until the command answers: see `listen`
    return getattr(import_module(command.module), command.function)(rest)


def script() -> NoReturn:
    """What the installed `gramlab` calls."""
    end(main())


def _read(name: str, argv: Sequence[str]) -> int:
    """Let `--help` and mistakes be answered before the command itself is imported, which reads its arguments anew."""
    parsed(COMMANDS[name].arguments, name, argv[:1] if COMMANDS[name].passes_on else argv)
    return 0


def _front(name: str) -> int:
    """What `gramlab` says of itself."""
    if name == "--version":
        print(f"gramlab {_version()}")
        return 0
    if name not in ("-h", "--help"):
        do = nearest(name, COMMANDS, otherwise="--help tells what they do")
        do = f"did you mean `gramlab run {name}`?" if name.endswith(".yaml") else do
        raise BadInput(f"unknown command {name!r}: want one of {', '.join(COMMANDS)}; {do}")
    print(overview())
    return 0


def overview() -> str:
    """Every command by its purpose, each with an example."""
    lines = ["usage: gramlab COMMAND ...", "       gramlab COMMAND --help", "       gramlab --version"]
    for purpose, commands in groupby(COMMANDS.items(), key=lambda one: one[1].purpose):
        lines += ["", purpose]
        for name, command in commands:
            lines += [f"  {name:9s}{command.does}", f"           gramlab {name} {command.example}"]
    return "\n".join(lines)


def whole_parser(words: Sequence[str]) -> Parser:
    """What completion goes by: every command, and the arguments of the one that the words of a line begin with."""
    whole = Parser(prog="gramlab")
    whole.add_argument("--version", action="store_true", help="which version this is")
    commands = whole.add_subparsers(parser_class=completion.Outline)
    for name, command in COMMANDS.items():
        parser = commands.add_parser(name, help=command.does)
        if name in words[:1]:
            command.arguments(parser)
    return whole


def _version() -> str:
    try:
        return version("gramlab")
    except PackageNotFoundError:
        return "(not installed; `make install` does it)"


if __name__ == "__main__":
    script()
