"""Scalars for TensorBoard: an event file that is written here and now.

TensorBoard's own writer works in a thread, whose errors – a full disk, a folder that is gone – nobody can answer.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter

from common.unwritable import writing


class Scalars:
    """One event file in `folder`; TensorBoard hides what earlier files say of `first_step` and the steps after it."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        name = f"events.out.tfevents.{time.time_ns() // 10**9}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        self.path = folder / name
        with writing(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("wb")
            self._records = RecordWriter(self._file)
            self._write(step=first_step, file_version="brain.Event:2")
            self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))
            self._file.flush()

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Values by name after a step. Raises `Unwritable`."""
        with writing(self.path):
            for name, value in values.items():
                self._write(step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=float(value))]))
            self._file.flush()

    def close(self) -> None:
        """Let go of the file; whatever was added is in it already."""
        with suppress(OSError):
            self._file.close()

    def _write(self, **content: Any) -> None:
        self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
