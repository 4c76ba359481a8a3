"""How every command of the project speaks: what ends it early is one line on stderr and an exit code, no traceback."""

from __future__ import annotations

import argparse
import atexit
import errno
import gc
import io
import os
import re
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn, TextIO

from common.errors import BadInput, nearest
from common.heap import keep_freed_memory
from common.interrupts import Interrupted, interruptible
from common.unwritable import Unwritable

BROKEN_PIPE = 141  # 128 + SIGPIPE, as other tools end in `… | head`


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are `BadInput`."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and leaving."""
        unknown = re.search(r"^unrecognized arguments: .*?(--[\w-]+)", message)
        known, usual = re.findall(r"--[\w-]+", self.format_usage()), "--help shows the usage"
        raise BadInput(f"{message}; {nearest(unknown[1], known, otherwise=usual) if unknown else usual}")


def parsed(
    arguments: Callable[[argparse.ArgumentParser], None], command: str, argv: Sequence[str] | None
) -> argparse.Namespace:
    """What a command was told; `--help` prints and leaves. Raises `BadInput` for what cannot be meant.

    Args:
        arguments: adds what the command takes to a parser, and describes it.
        command: its name behind `gramlab`.
    """
    parser = Parser(prog=f"gramlab {command}", formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments(parser)
    return parser.parse_intermixed_args(argv)


def answer(act: Callable[[], int], *, afterwards: str = "the same command goes on with what is left to do") -> int:
    """The exit code of a command: what `act` returns, 2 for bad input or a disk that fails, 128 + n for signal n.

    Args:
        afterwards: where a command stands that was interrupted or ran out of disk, unless the error has notes on it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text, or none that it can show
    gc.enable()  # see `listen`
    gc.set_threshold(10_000, 20, 20)  # a report's many objects live until it is written: a sixth of its time
    keep_freed_memory()
    with interruptible():
        try:
            return _answer(act, afterwards)
        except KeyboardInterrupt as error:
            _complain(str(error) or "interrupted", *getattr(error, "__notes__", [afterwards]))
            return error.code if isinstance(error, Interrupted) else 130
        finally:
            _drop_unwritten(sys.stdout)


def end(code: int) -> NoReturn:
    """End the process with this code as `sys.exit` would, but leave to the system what was imported.

    Threads are waited for and what asked to be called at the end is. To take torch and its company apart, object by
    object, takes some two seconds.
    """
    threading._shutdown()  # pyright: ignore[reportAttributeAccessIssue] # with these two Python begins as well
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody listens, or it was closed
            stream.flush()
    os._exit(code)


def _answer(act: Callable[[], int], afterwards: str) -> int:
    try:
        code = act()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        return BROKEN_PIPE
    except (BadInput, OSError) as error:
        what = str(error) if isinstance(error, BadInput) or error.errno is None else _of_system(error)
        _complain(what, *getattr(error, "__notes__", [afterwards] if isinstance(error, Unwritable) else []))
        return 2


def _complain(*parts: str) -> None:
    with suppress(OSError):  # nobody listens
        print(f"gramlab: {'; '.join(parts)}", file=sys.stderr, flush=True)


def _of_system(error: OSError) -> str:
    """What the system refused, and for which file; all that is written has its name but for what is printed."""
    printing = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    place = error.filename or ("standard output" if printing else "")
    return f"{place}: {error.strerror}" if place else str(error)


def _drop_unwritten(stream: TextIO) -> None:
    """Forget what a stream no longer takes, or Python would complain of it when it ends."""
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def number_of(count: int, word: str) -> str:
    """`1 arm`, `3 arms`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, to two digits at least."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 1000 else f"{hours:,.0f} h"
