"""The processes that mirror a run into its trackers while it is trained: started, heard, and ended with it."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from common.errors import first_line
from common.unwritable import writing

PROGRAM = str(Path(__file__).with_name("mirror.py"))
PATIENCE, HURRY = 30.0, 5.0  # seconds for the last look, once all is done; where somebody wants to leave

log = logging.getLogger("gramlab")


def mirror(folder: Path, name: str, only: Sequence[str] = ()) -> list[str]:
    """The program that mirrors a run's folder into a tracker; of its jobs these alone where they are named."""
    return [PROGRAM, str(folder), name, str(place_of(folder, name)), *only]


def place_of(folder: Path, name: str) -> Path:
    """Where the files of a tracker lie, below a run's folder."""
    return folder / "trackers" / name


@contextmanager
def mirrored(folder: Path, names: Sequence[str], *, only: Sequence[str] = ()) -> Iterator[None]:
    """Inside, and once more behind it, trackers are told what the run's files say; what fails is told and stops nobody.

    only: these jobs, where others are mirrored elsewhere.
    """
    mirrors, patience = [*_started(folder, names, only)], HURRY
    try:
        yield
        patience = PATIENCE
    finally:
        for one in mirrors:
            one.hurry()
        until = time.monotonic() + patience
        for one in mirrors:
            one.end(until)


def _started(folder: Path, names: Sequence[str], only: Sequence[str]) -> Iterator[_Mirror]:
    for name in names:
        try:
            yield _Mirror(folder, name, only)
        except OSError as error:
            log.warning("%s: %s; training goes on without it", name, first_line(error))


class _Mirror:
    """A process of `mirror`; what it tells goes to the log, what libraries say to a file beside the tracker's own.

    Raises OSError where it cannot be started.
    """

    def __init__(self, folder: Path, name: str, only: Sequence[str]) -> None:
        self.name, self.told, place = name, False, place_of(folder, name)
        with writing(place):
            place.mkdir(parents=True, exist_ok=True)
            errors = (place / "log.txt").open("ab")
        with errors:
            self.process = subprocess.Popen(
                [sys.executable, *mirror(folder, name, only)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # Ctrl-C is the main process's to answer
            )
        self.teller = threading.Thread(target=self._tell, daemon=True)
        self.teller.start()

    def _tell(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as said:
            for line in said:
                self.told, words = True, line.decode(errors="backslashreplace").rstrip()
                log.warning("%s: %s; training goes on, and what is missing is tried again", self.name, words)

    def hurry(self) -> None:
        """Let it have its last look."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self, until: float) -> None:
        """Wait for it until that time."""
        try:
            self.process.wait(timeout=max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            if not self.told:
                log.warning("%s: not ready in time; the same command tells it the rest", self.name)
        self.teller.join()
