"""The training curves of a job on disk: a line per logged step, and the same for TensorBoard; and the time in them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from common.disk import append, write_text
from common.records import Collapse, CurvePoint, read_lines
from harness.trackers.tensorboard import TensorBoard
from harness.trackers.tracker import of_training

log = logging.getLogger("gramlab")


class Watch(Protocol):
    """Looks at the rows of a curve; `found` is a sign of collapse, once one has lasted."""

    found: Collapse | None

    def __call__(self, row: Mapping[str, Any]) -> list[str]:
        """What is to be told after a row, a line each."""
        ...


class Curves:
    """The training curve of one job: `metrics.jsonl` and TensorBoard scalars, cut back to `step` when resumed.

    A damaged line is told and left out. `watch` sees each row, those that are there already first.
    """

    def __init__(self, folder: Path, *, step: int, watch: Watch | None = None):
        self.path = folder / "metrics.jsonl"
        found = read_lines(self.path, CurvePoint)
        for said in found.told():
            log.warning(said)
        rows = [row for row in found.rows if row["step"] <= step]
        if self.path.exists():
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        self.watch = watch
        if watch is not None:
            for row in rows:
                watch(row)
        self.steps_logged = rows[-1]["step"] if rows else 0
        self.seconds_logged = rows[-1].get("seconds", 0.0) if rows else 0.0
        self.board = TensorBoard(folder / "tensorboard", first_step=step + 1)

    def add(self, row: dict[str, float]) -> list[str]:
        """Append one logged step; what its watch tells of it, a line each."""
        append(self.path, json.dumps(row) + "\n")
        self.steps_logged, self.seconds_logged = int(row["step"]), float(row["seconds"])
        self.board.scalars([of_training(row)])
        return [] if self.watch is None else self.watch(row)

    @property
    def collapse(self) -> Collapse | None:
        """The first sign of it that has lasted."""
        return None if self.watch is None else self.watch.found

    def add_evaluation(self, step: int, values: dict[str, float]) -> None:
        """Show evaluation results in TensorBoard, beside the losses."""
        self.board.scalars([(step, {f"evals/{key}": value for key, value in values.items()})])

    def close(self) -> None:
        """Let go of the file for TensorBoard."""
        self.board.close()


class Stopwatch:
    """Seconds of training, evaluations and checkpoints left out, going on from an earlier count; and how many of this
    process's went by waiting for batches."""

    def __init__(self, seconds: float):
        self.before, self.started = seconds, time.perf_counter()
        self.earlier, self.waited = seconds, 0.0

    def seconds(self) -> float:
        """Seconds so far."""
        return self.before + time.perf_counter() - self.started

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What happens inside is waiting for a batch."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.waited += time.perf_counter() - begun

    def share_waited(self) -> float:
        """Of this process's seconds."""
        return self.waited / max(self.seconds() - self.earlier, 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        self.before = self.seconds()
        try:
            yield
        finally:
            self.started = time.perf_counter()
