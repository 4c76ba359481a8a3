"""The training curves of a job on disk: a line per logged step, and the same for TensorBoard; and the time in them."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.disk import append, write_text
from common.records import CurvePoint, read_lines
from harness.trackers.tensorboard import TensorBoard
from harness.trackers.tracker import of_training

log = logging.getLogger("gramlab")


class Curves:
    """The training curve of one job: `metrics.jsonl` and TensorBoard scalars, cut back to `step` when resumed.

    A damaged line is told and left out.
    """

    def __init__(self, folder: Path, *, step: int):
        self.path = folder / "metrics.jsonl"
        found = read_lines(self.path, CurvePoint)
        for said in found.told():
            log.warning(said)
        rows = [row for row in found.rows if row["step"] <= step]
        if self.path.exists():
            write_text(self.path, "".join(json.dumps(row) + "\n" for row in rows))
        self.steps_logged = rows[-1]["step"] if rows else 0
        self.seconds_logged = rows[-1].get("seconds", 0.0) if rows else 0.0
        self.board = TensorBoard(folder / "tensorboard", first_step=step + 1)

    def add(self, row: dict[str, float]) -> None:
        """Append one logged step."""
        append(self.path, json.dumps(row) + "\n")
        self.steps_logged, self.seconds_logged = int(row["step"]), float(row["seconds"])
        self.board.scalars([of_training(row)])

    def add_evaluation(self, step: int, values: dict[str, float]) -> None:
        """Show evaluation results in TensorBoard, beside the losses."""
        self.board.scalars([(step, {f"evals/{key}": value for key, value in values.items()})])

    def close(self) -> None:
        """Let go of the file for TensorBoard."""
        self.board.close()


class Stopwatch:
    """Seconds of training, evaluations and checkpoints left out, going on from an earlier count."""

    def __init__(self, seconds: float):
        self.before, self.started = seconds, time.perf_counter()

    def seconds(self) -> float:
        """Seconds so far."""
        return self.before + time.perf_counter() - self.started

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        self.before = self.seconds()
        try:
            yield
        finally:
            self.started = time.perf_counter()
