"""The command `gramlab`: a thin front of the scripts, `gramlab run …` being `python harness/run.py …`."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.command import answer
from common.errors import BadInput
from common.interrupts import listen

COMMANDS = {
    "run": ("harness.run", "train, evaluate and report an experiment file"),
    "sweep": ("harness.sweep", "search over settings of an experiment file, each trial an arm of it"),
    "eval": ("evals.run", "evaluate any backbone on frozen features"),
    "compare": ("harness.compare", "experiments side by side, or the paired difference of two evaluated checkpoints"),
    "prepare": ("evals.prepare", "bring public downloads into the layouts of data sets, and check them"),
    "status": ("harness.status", "what of a run is under way, waits, failed or is done, and until when"),
    "watch": ("harness.status:watch", "the same, until nothing is left to do"),
    "report": ("reports.build", "render the report of a run's folder again"),
    "tables": ("reports.tables", "write what runs gave as tables: Parquet, CSV, LaTeX, Markdown"),
    "clean": ("harness.clean", "free what no experiment asks for any more"),
    "curate": ("harness.curate", "turn a pool of images into a manifest of those worth training on"),
    "look": ("evals.pictures.contact_sheet", "draw images, masks and depth of a data set"),
}


def main(argv: list[str] | None = None) -> int:
    """Hand the remaining arguments to the named command; returns its exit code."""
    if argv is None:
        listen()
    name, *rest = (sys.argv[1:] if argv is None else argv) or ["--help"]
    if name in COMMANDS:
        module, _, function = COMMANDS[name][0].partition(":")
        return getattr(import_module(module), function or "main")(rest)
    return answer(lambda: _help(name))


def _help(name: str) -> int:
    if name not in ("-h", "--help"):
        raise BadInput(f"unknown command {name!r}; known: {', '.join(COMMANDS)}")
    print("usage: gramlab COMMAND ...\n\n" + "\n".join(f"  {n:8s}{text}" for n, (_, text) in COMMANDS.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
