"""How far a long computation is, for those who watch a terminal and for those who read a log."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

from tqdm import tqdm

SILENCE = 30.0  # seconds between two lines of the log

log = logging.getLogger("gramlab")


class Bar(tqdm):
    """tqdm's bar, with rate and time left; where stderr is no terminal, a line of the log each half minute instead.

    Takes tqdm's arguments, and vanishes when it ends.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._logs = not sys.stderr.isatty()
        if self._logs:
            options |= {"mininterval": SILENCE, "maxinterval": SILENCE, "file": io.StringIO()}
            options |= {"bar_format": "{desc}: {n_fmt} of {total_fmt}, {remaining} left, {rate_fmt}{postfix}"}
        super().__init__(*args, leave=False, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Show the state, which tqdm asks for when it is time; nothing is told at the beginning and at the end."""
        if not self._logs:
            return super().display(msg, pos)
        if self.n and msg is None:
            log.info(str(self))
        return True
