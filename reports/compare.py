"""python reports/compare.py RUN RUN... [--out FOLDER]: how experiments differ, in their settings and in what they gave.

The first is what the others are compared with. Measures stand side by side where protocol (by its hash), data set,
split, judged files and size agree; what else was measured is named, with the reason. docs/comparing.md explains it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from tqdm import tqdm

from common.command import Parser, answer
from reports.across import text
from reports.across.changes import between, within
from reports.across.files import write
from reports.across.settings import differing
from reports.across.sides import leads, shared, sides, unlike


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, or 2 with one line on stderr for input that the user can mend."""
    return answer(lambda: _run(argv), afterwards="what lies there stays")


def parser() -> Parser:
    found = Parser(prog="reports/compare.py", description="Compare experiments: settings, results, trade-off.")
    found.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="runs/<experiment>, the one to compare with first"
    )
    found.add_argument("--all", action="store_true", help="every measure, not only those that lead a report")
    found.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write the trade-off and all numbers into this folder"
    )
    return found


def _run(argv: Sequence[str] | None) -> int:
    options = parser().parse_args(argv)
    every = sides(options.runs)
    common = shared(every)
    told = common if options.all or not any(map(leads, common)) else [one for one in common if leads(one)]
    wanted = common if options.out else told
    changes, settings = between(every, wanted), differing(every)
    bar = tqdm(every, desc="differences", unit="experiment", disable=None)
    own = {side.name: within(side, wanted) for side in bar}
    last = ["--out FOLDER writes the trade-off as a picture, and all numbers"]
    if options.out is not None:
        last = write(options.out, every, common, settings=settings, own=own, changes=changes)
    if len(told) < len(common):
        last = [f"{len(common) - len(told)} more measures: --all", *last]
    first = [one for one in changes if one.measure in told]
    blocks = [
        text.heading(every),
        text.settings(every, settings),
        text.results(every, told),
        text.own_changes(every, own, told),
        text.cross_changes(first, told, every[0]),
        [text.protocols(told), *(f"Not compared: {line}" for line in unlike(every))],
        text.cautions(every, first, settings),
        last,
    ]
    print("\n\n".join("\n".join(block) for block in blocks if block))
    return 0


if __name__ == "__main__":
    sys.exit(main())
