"""MLflow: by its client alone, into a SQLite file of the run, or where `MLFLOW_TRACKING_URI` leads."""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

# before the import: calls home are off, and a server that does not answer is not asked for minutes
for name, value in {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
}.items():
    os.environ.setdefault(name, value)

from mlflow import MlflowClient  # pyright: ignore[reportMissingImports]
from mlflow.entities import Metric, Param  # pyright: ignore[reportMissingImports]
from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]
from PIL.Image import Image

from harness.trackers.tracker import Point, Run, State

AT_ONCE = 1000  # metrics, and a tenth as many settings, of one call
LONGEST = 500  # characters of a setting that every store of MLflow takes
ENDS = {"done": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}
UNLIKED = re.compile(r"[^\w /.:-]")  # in names

for name in ("mlflow", "alembic"):
    logging.getLogger(name).setLevel(logging.WARNING)


class MLflow:
    """A run of the experiment's name in MLflow, found again by its tag `id`."""

    def __init__(self, run: Run) -> None:
        given, place = os.environ.get("MLFLOW_TRACKING_URI"), run.folder.resolve()
        if not given:
            refuse_unwritable(place / "mlflow.db")
        self.client = MlflowClient(tracking_uri=given or f"sqlite:///{place / 'mlflow.db'}")
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.experiment
        experiment = self._experiment(name, None if given else (place / "artifacts").as_uri())
        if known := self.client.search_runs([experiment], f"tags.id = '{run.id}'"):
            self.id = known[0].info.run_id
            self.client.update_run(self.id, status="RUNNING")
            return
        tags = {**run.tags, "id": run.id, "mlflow.note.content": run.about}
        self.id = self.client.create_run(experiment, run_name=run.name, tags=tags).info.run_id

    def _experiment(self, name: str, artifacts: str | None) -> str:
        """The number of the experiment, which another process may be making in this moment."""
        if (found := self.client.get_experiment_by_name(name)) is not None:
            return found.experiment_id
        try:
            return self.client.create_experiment(name, artifact_location=artifacts)
        except MlflowException:
            if (found := self.client.get_experiment_by_name(name)) is None:
                raise
            return found.experiment_id

    def scalars(self, points: Sequence[Point]) -> None:
        """Metrics with their steps."""
        now = time.time_ns() // 10**6
        found = [
            Metric(UNLIKED.sub("-", name), float(value), now, step)
            for step, values in points
            for name, value in values.items()
        ]
        for at in range(0, len(found), AT_ONCE):
            self.client.log_batch(self.id, metrics=found[at : at + AT_ONCE])

    def settings(self, plain: Mapping[str, Any]) -> None:
        """Parameters by dotted names, as they were first, for MLflow changes none; all of them in `settings.json`."""
        known = self.client.get_run(self.id).data.params
        words = {UNLIKED.sub("-", key): word[:LONGEST] for key, word in flat(plain)}
        found = [Param(key, word) for key, word in words.items() if key not in known]
        for at in range(0, len(found), AT_ONCE // 10):
            self.client.log_batch(self.id, params=found[at : at + AT_ONCE // 10])
        self.client.log_dict(self.id, dict(plain), "settings.json")

    def text(self, name: str, text: str) -> None:
        """A text file among the artifacts."""
        self.client.log_text(self.id, text, f"{name}.txt")

    def picture(self, name: str, step: int, image: Image) -> None:
        """An image of the run, by its step."""
        self.client.log_image(self.id, image, key=name, step=step, synchronous=True)

    def file(self, path: Path) -> None:
        """A file among the artifacts."""
        self.client.log_artifact(self.id, str(path))

    def close(self, state: State) -> None:
        """Say how it ended."""
        self.client.set_terminated(self.id, ENDS[state])


def refuse_unwritable(path: Path) -> None:
    """Raises what SQLite says of a file that it cannot write, which MLflow would try again for most of a minute."""
    try:
        with closing(sqlite3.connect(path)) as file:
            file.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        error.args = (f"{path}: {error}",)
        raise


def flat(plain: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings by dotted names, each as text; lists and empty mappings stay whole."""
    for key, value in plain.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
