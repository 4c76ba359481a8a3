"""How every command of the project speaks: bad input ends in one line on stderr and exit code 2, never a traceback."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from common.errors import BadInput


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are `BadInput`."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        raise BadInput(f"{message}; --help shows the usage")


def answer(act: Callable[[], int], *, interrupted: str = "what was finished is kept") -> int:
    """The exit code of a command: what `act` returns, 2 for bad input, 130 when interrupted.

    Args:
        interrupted: what to tell a user who stopped the command.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text, or none that it can show
    try:
        return act()
    except (BadInput, OSError) as error:
        print(f"gramlab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"gramlab: interrupted; {interrupted}", file=sys.stderr)
        return 130


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)
