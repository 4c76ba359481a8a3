"""What settings say of themselves: `python harness/settings_pages.py` writes the pages that show it.

A test compares them with what this writes, so they cannot drift from the code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from common.disk import write_text
from common.kinds import described
from common.schema import wanted
from evals.protocols import reading
from evals.protocols.protocol import Protocol
from evals.tasks.methods import METHODS, protocol_of

DOCS = Path(__file__).resolve().parents[1] / "docs"
PROTOCOLS = """\
# Settings of protocols

Written by `python harness/settings_pages.py` from the classes in `evals/tasks/`: what they say is changed there.

A protocol is a file of `evals/protocols/`, or a copy of one under another `name` ([evaluations.md](evaluations.md)).
It names its `method` and gives every setting of it: none has a default. A setting that is missing, unknown or outside
what is wanted here is refused, all of them at once. Numbers are finite, and a whole one may stand for any; true and
false are no numbers. Each setting enters the protocol's hash. The files themselves tell steps and sources.
"""


def main() -> int:
    """Write all pages anew."""
    for name, text in pages().items():
        write_text(DOCS / name, text)
    return 0


def pages() -> dict[str, str]:
    """Every page that is written, by its name in `docs/`."""
    return {"protocols.md": protocols()}


def protocols() -> str:
    """The page of protocols: what all of them have, then each method's own settings."""
    shared = [setting.key for setting in described(Protocol)]
    found = [PROTOCOLS, "## Every protocol", *_table(Protocol)]
    shipped = [protocol_of(name) for name in reading.names()]
    for name, method in METHODS.items():
        files = [protocol.name for protocol in shipped if protocol.method == name]
        named = [f"- [{file}](../evals/protocols/{file}.yaml): {reading.title(file)}." for file in files]
        found += ["", f"## `method: {name}`", "", *named, *_table(method.settings, without=shared)]
    return "\n".join(found) + "\n"


def _table(kind: type[Protocol], *, without: Sequence[str] = ()) -> Iterator[str]:
    yield from ("", "| setting | wanted | meaning |", "|---|---|---|")
    for setting in described(kind):
        if setting.key not in without:
            yield f"| `{setting.key}` | {wanted(setting.hint)} | {setting.about.meaning} |"


if __name__ == "__main__":
    sys.exit(main())
