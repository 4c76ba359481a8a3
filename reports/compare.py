"""gramlab compare RUN RUN... [--out FOLDER]: how experiments differ, in their settings and in what they gave."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from common.interrupts import listen

    listen()

from common.command import answer, end, parsed
from common.progress import Bar
from reports import arguments
from reports.across import text
from reports.across.changes import between, within
from reports.across.files import write
from reports.across.settings import differing
from reports.across.sides import leads, shared, sides, unlike


def main(argv: Sequence[str] | None = None) -> int:
    """The command; 0, or 2 with one line on stderr for input that the user can mend."""
    return answer(lambda: _run(argv), afterwards="what lies there stays")


def _run(argv: Sequence[str] | None) -> int:
    options = parsed(arguments.compare, "compare", argv)
    every = sides(options.runs)
    common = shared(every)
    told = common if options.all or not any(map(leads, common)) else [one for one in common if leads(one)]
    wanted = common if options.out else told
    changes, settings = between(every, wanted), differing(every)
    bar = Bar(every, desc="differences", unit="experiment", lines=False)
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
    end(main())
