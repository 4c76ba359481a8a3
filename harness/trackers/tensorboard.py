"""TensorBoard, always on: an event file that is written here and now.

TensorBoard's own writer works in a thread, whose errors – a full disk, a folder that is gone – nobody can answer.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from textwrap import indent
from typing import IO, Any

import yaml
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.compat.proto.tensor_pb2 import TensorProto  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter

from common.errors import first_line
from common.unwritable import writing
from harness.trackers.tracker import Point

TEXT = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name="text"))

log = logging.getLogger("gramlab")


class TensorBoard:
    """One event file in `folder`; TensorBoard hides what earlier files say of `first_step` and the steps after it.

    What cannot be written is told once, and from then on nothing more is.

    Args:
        anew: earlier files are removed.
    """

    def __init__(self, folder: Path, *, first_step: int = 0, anew: bool = False) -> None:
        name = f"events.out.tfevents.{time.time_ns() // 10**9}.{socket.gethostname()}.{os.getpid()}.{time.time_ns()}"
        self.path = folder / name
        self._file: IO[bytes] | None = None
        with self._harmless():
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob("events.*") if anew else ():
                path.unlink(missing_ok=True)
            self._file = self.path.open("wb")
        self._write(
            Event(step=first_step, file_version="brain.Event:2"),
            Event(step=first_step, session_log=SessionLog(status=SessionLog.START)),
        )

    def scalars(self, points: Sequence[Point]) -> None:
        """Values by name after each step."""
        for step, values in points:
            self._add(step, *(Summary.Value(tag=name, simple_value=float(value)) for name, value in values.items()))

    def settings(self, plain: Mapping[str, Any]) -> None:
        """The settings as the YAML that they came from would have them."""
        self.text("settings", yaml.safe_dump(dict(plain), sort_keys=False, allow_unicode=True))

    def text(self, name: str, text: str) -> None:
        """Lines as they are: what TensorBoard shows is Markdown, in which indented ones keep their columns."""
        tensor = TensorProto(dtype="DT_STRING", string_val=[indent(text, "    ").encode()])
        self._add(0, Summary.Value(tag=name, metadata=TEXT, tensor=tensor))

    def close(self) -> None:
        """Let go of the file; whatever was added is in it already."""
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None

    def _add(self, step: int, *values: Any) -> None:
        self._write(*(Event(step=step, summary=Summary(value=[value])) for value in values))

    def _write(self, *events: Event) -> None:
        if self._file is None:
            return
        with self._harmless():
            for event in events:
                event.wall_time = time.time()
                RecordWriter(self._file).write(event.SerializeToString())
            self._file.flush()

    @contextmanager
    def _harmless(self) -> Iterator[None]:
        try:
            with writing(self.path):
                yield
        except OSError as error:
            self.close()
            log.warning("TensorBoard: %s; training goes on without it", first_line(error))
