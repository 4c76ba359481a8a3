"""What the commands of reports can be told on their command lines, without anything that takes seconds to import."""

from __future__ import annotations

import argparse
from pathlib import Path

from common.completion import completed, run_folders
from common.errors import BadInput

LOOPBACK = "127.0.0.1"
FORMATS = ("parquet", "csv", "latex", "markdown")  # of tables; reports/tables.py writes them


def report(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab report`."""
    parser.description = """\
Make a run's report from its tables: report.pdf, report.html (the same, to explore in a browser) and CSV files.

With --watch nothing is written: report.html is served while the run goes on, and follows it."""
    completed(parser.add_argument("folder", type=Path, help="runs/<experiment>"), run_folders)
    parser.add_argument("--png", type=Path, metavar="FOLDER", help="also write each page as PNG into this folder")
    parser.add_argument("--tables", action="store_true", help="write the CSV files alone, and draw nothing")
    parser.add_argument("--watch", action="store_true", help="serve the report to this machine until Ctrl-C")
    served(parser)


def served(parser: argparse.ArgumentParser) -> None:
    """Where a report is served."""
    host = "serve others too, at this address (default: this machine alone); whoever reaches it can read the report, "
    host += "by an address, not by a host's name"
    parser.add_argument("--host", default=LOOPBACK, help=host)
    parser.add_argument("--port", type=int, default=0, help="the port (default: one that is free)")


def refuse_contrary(options: argparse.Namespace) -> None:
    """Raise `BadInput` for what says where to serve, or what else to write, where that cannot be meant."""
    for other in ("png", "tables"):
        if options.watch and getattr(options, other):
            raise BadInput(f"got --{other} with --watch, which writes nothing: want one of them; leave one out")
    if options.tables and options.png:
        raise BadInput("got --png with --tables, which draws nothing: want one of them; leave one out")
    if not options.watch and (options.host, options.port) != (LOOPBACK, 0):
        raise BadInput("got --host or --port without --watch: want them where a report is served; add --watch")


def tables(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab tables`."""
    parser.description = """\
Write what runs gave as tables.

For programs (parquet, csv) three tidy tables an experiment: `results` (one measured number a row), `verdicts` (every
difference from the baseline) and `jobs` (what was trained, on which machine, for how long). For readers (latex,
markdown) one file, `results`: arms down, measures across. docs/tables.md tells what is in them."""
    runs = parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="runs/<experiment>")
    completed(runs, run_folders)
    formats = "for programs parquet (default) and csv, for readers latex and markdown"
    parser.add_argument("--to", choices=FORMATS, default="parquet", help=formats)
    where = "a folder, in which each experiment has one of its own (default: tables/ in the run's folder)"
    others = "arms that all are compared with, besides the baseline"
    parser.add_argument("--against", nargs="+", default=[], metavar="ARM", help=others)
    parser.add_argument("--out", type=Path, metavar="FOLDER", help=where)


def compare(parser: argparse.ArgumentParser) -> None:
    """Of `gramlab compare`, where experiments are compared."""
    parser.description = """\
Compare experiments: how they differ in their settings and in what they gave, and the trade-off of each.

The first is what the others are compared with. Measures stand side by side where protocol (by its hash), data set,
split, judged files and size agree; what else was measured is named, with the reason. docs/comparing.md explains it."""
    runs = "runs/<experiment>, the one to compare with first"
    completed(parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=runs), run_folders)
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write the trade-off and all numbers into this folder"
    )
    of_experiments(parser)


def of_experiments(parser: argparse._ActionsContainer) -> None:
    """What only the comparison of experiments takes."""
    parser.add_argument("--all", action="store_true", help="every measure, not only those that lead a report")
