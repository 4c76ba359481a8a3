"""A turn among the workers of a folder: what is done in it is done by one of them at a time."""

from __future__ import annotations

import fcntl
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from common.unwritable import writing


class Turn:
    """`with Turn(path):` waits until no other process has it; a process that dies gives it back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: BinaryIO | None = None

    def take(self) -> None:
        """Wait for the turn."""
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = self.path.open("ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except BaseException:
            file.close()
            raise
        self.file = file

    def give_back(self) -> None:
        """Let others have it; nothing happens where it was given back already."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.give_back()
