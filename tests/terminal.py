"""A terminal for tests: what is written to it becomes a screen, as a person would see it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType

import pyte

COLOUR = re.compile(rb"\x1b\[(?:\d+;)*(?:[34][0-8]|9[0-7]|10[0-7])[;m]")


class Terminal:
    """A pseudo-terminal with an emulator behind it; `file` is what programs write to, `theirs` its descriptor.

    `raw` is all that was written, `screens` what was to be seen after each part of it.
    """

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self._ours, self.theirs = pty.openpty()
        self.raw, self.screens = b"", list[str]()
        self.screen = pyte.Screen(columns, rows)
        self._stream, self._lock = pyte.ByteStream(self.screen), threading.Lock()
        self.resize(columns)
        self.file = open(self.theirs, "w", encoding="utf-8", buffering=1, closefd=False)  # noqa: SIM115
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.file.close()
        os.close(self.theirs)
        self._reader.join()
        os.close(self._ours)

    def _read(self) -> None:
        with suppress(OSError):  # what a terminal says when nobody writes to it any more
            while part := os.read(self._ours, 1 << 16):
                with self._lock:
                    self.raw += part
                    self._stream.feed(part)
                    self.screens.append(self._text())

    def _text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip("\n")

    def resize(self, columns: int) -> None:
        """Give it another width."""
        with self._lock:
            self.screen.resize(columns=columns)
            fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", self.screen.lines, columns, 0, 0))

    @contextmanager
    def stderr(self) -> Iterator[None]:
        """Inside, this process has it as stderr; a fixture cannot do so, since pytest takes stderr back after it."""
        before, sys.stderr = sys.stderr, self.file
        try:
            yield
        finally:
            sys.stderr = before

    def type(self, keys: bytes) -> None:
        """What somebody types."""
        os.write(self._ours, keys)

    def ended(self) -> list[str]:
        """All screens, once no more is written."""
        self.file.write("\a")
        self.file.flush()
        while not self.raw.endswith(b"\a"):
            time.sleep(0.005)
        with self._lock:
            return [*self.screens]

    def shows(self, wanted: str | Callable[[str], bool]) -> str:
        """The screen, once it is the one that is wanted; fails where it does not become so."""
        until = time.monotonic() + 20
        while True:
            with self._lock:
                text = self._text()
            if wanted == text or (callable(wanted) and wanted(text)):
                return text
            assert time.monotonic() < until, text
            time.sleep(0.005)
