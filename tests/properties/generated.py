"""Generated input: how many cases, always the same ones, and what every command owes whatever it is given."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from hypothesis import HealthCheck, settings

from common.command import answer

# `GRAMLAB_PROPERTIES=large`: fifty times as many, others each time
FEW = {"derandomize": True, "database": None, "deadline": None, "suppress_health_check": [*HealthCheck]}
settings.register_profile("usual", **FEW)
settings.register_profile("large", **{**FEW, "derandomize": False, "print_blob": True})
LARGE = os.environ.get("GRAMLAB_PROPERTIES") == "large"
settings.load_profile("large" if LARGE else "usual")

# one line, or a heading and a line for each fault
MORE = re.compile(r"  |arms\.|trunk\.|trunk: |every arm: ")
THEIRS = re.compile(r"Traceback|<class '|object at 0x|omegaconf|pydantic|hydra\.errors|pyarrow|Errno")


def cases(count: int) -> settings:
    """So many examples, or fifty times as many where a large run is asked for."""
    return settings(max_examples=50 * count if LARGE else count)


class Answer(NamedTuple):
    """What a command came to: its exit code and what it said on stderr."""

    code: int
    said: str


def answered(act: Callable[[], object], *given: str) -> Answer:
    """Carry out `act` as commands do, and check what it says: nothing, or one complaint in our words.

    given: what the complaint may repeat.
    """
    with contextlib.redirect_stderr(io.StringIO()) as heard, contextlib.redirect_stdout(io.StringIO()):
        code = answer(lambda: (act(), 0)[1])
    said = heard.getvalue()
    assert code in (0, 2), said
    if code == 2:
        first, *more = said.rstrip("\n").split("\n")
        assert first.startswith("gramlab: "), said
        assert all(MORE.match(line) for line in more), said
        own = said
        for text in given:
            own = own.replace(text, "")
        assert not THEIRS.search(own), said
    return Answer(code, said)


def held(folder: Path) -> dict[str, str]:
    """All files below a folder with the hash of what they hold."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
