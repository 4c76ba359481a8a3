"""A block of lines at the foot of a terminal, redrawn in place while all else that is written scrolls above it."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

from common.errors import first_line
from common.progress import is_redrawn, standing

EVERY = 1.0  # seconds between two drawings, at least
SHARE = 0.01  # of the time that drawing may take from what is shown

Content = Callable[[Console], RenderableType]


@contextmanager
def shown(content: Content, *, on: TextIO | None = None, stays: bool = False) -> Iterator[None]:
    """Inside, a block at the foot of the terminal shows `content`, which is asked again and again.

    Nothing is drawn where `on`, else stderr, is no terminal, or a dumb one. Colours are left out where NO_COLOR is set.

    Args:
        stays: the last state is left on the terminal at the end, rather than removed.
    """
    if not is_redrawn(file := on or sys.stderr):
        yield
        return
    block = Block(content, file, stays=stays)
    try:
        block.begin()
        with standing(block):
            block.draw()
            yield
            if stays:
                block.draw()
    finally:
        block.end()


class Block:
    """What `shown` draws: by the thread that made it alone, whenever that calls `tick` and a second has passed.

    There is no thread for it, so it shows what was so when something last moved on; the cursor is left visible, for a
    process that is stopped or killed cannot bring it back.
    """

    def __init__(self, content: Content, file: TextIO, *, stays: bool) -> None:
        self._content, self._owner, self._due = content, threading.get_ident(), 0.0
        self._console = Console(file=file, force_terminal=True, markup=False, highlight=False, emoji=False)
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=not stays,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self._before = sys.stdout, sys.stderr
        self._lock = threading.RLock()  # rich's own leaves room between a line's writing and where it is placed

    def begin(self) -> None:
        """Take the foot of the terminal."""
        sys.stdout, sys.stderr = (cast(TextIO, _Above(self, one)) if one.isatty() else one for one in self._before)
        with self._lock, suppress(OSError):  # a terminal that is closed
            self._live.start()
            self._console.show_cursor(True)

    def end(self) -> None:
        """Give it back, as clean as it was but for what stays."""
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, _Above):
                stream.end()
        sys.stdout, sys.stderr = self._before
        with self._lock, suppress(OSError):
            self._live.stop()

    def tick(self) -> None:
        """Draw it anew where it is time for that."""
        if time.monotonic() >= self._due and threading.get_ident() == self._owner:
            self.draw()

    def draw(self) -> None:
        """Draw it anew."""
        began = time.thread_time()
        self._measure()
        try:
            content = _Fitted(self._content(self._console))
        except Exception as error:  # whatever cannot be shown must not end what it would tell of
            content = _Fitted(Text(f"nothing to be shown: {first_line(error)}"))
        with self._lock, suppress(OSError):
            self._live.update(content, refresh=True)
        self._due = time.monotonic() + max(EVERY, (time.thread_time() - began) / SHARE)

    def above(self, line: str) -> None:
        """Write a line above it, as long as it is."""
        self._measure()
        with self._lock, suppress(OSError):
            self._console.print(Text.from_ansi(line), soft_wrap=True)

    def _measure(self) -> None:
        """Take the size of this terminal: rich would ask standard input first, and believe what a shell exported."""
        with suppress(OSError):
            columns, lines = os.get_terminal_size(self._console.file.fileno())
            self._console.size = ConsoleDimensions(columns or 80, lines or 25)  # 0 where nobody told the terminal


class _Above:
    """A stream to the terminal whose lines are written above a block, each once it is whole.

    Of a line that is written over and over, as other libraries' bars are, that is its last state.
    """

    def __init__(self, block: Block, stream: TextIO) -> None:
        self._block, self._stream, self._begun = block, stream, ""
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._lock:
            *lines, rest = (self._begun + text).split("\n")
            self._begun = rest.rpartition("\r")[2]
        for line in lines:
            self._block.above(line.rstrip("\r").rpartition("\r")[2])
        return len(text)

    def flush(self) -> None:
        """Nothing waits but what is no line yet."""

    def end(self) -> None:
        """Write what never became a whole line."""
        if self._begun.strip():
            self.write("\n")


class _Fitted:
    """Content that is as wide as the terminal is now, also beside a line that is left to the terminal to wrap."""

    def __init__(self, content: RenderableType) -> None:
        self._content = content

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._content, console.options)
