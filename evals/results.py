"""Result rows and the per-image outcomes behind them: measured, appended, read back. Imports no torch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from evals.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

Outcomes = Mapping[str, np.ndarray]  # "keys" [n] names the images; every other array has n rows


class Metric(NamedTuple):
    """How a metric is written and read; `kind` says which side of the dense-vs-global trade-off it measures."""

    label: str
    unit: str
    higher_is_better: bool
    kind: Literal["global", "dense"]


METRICS: dict[str, Metric] = {
    "top1": Metric("top-1 accuracy", "", True, "global"),
    "miou": Metric("mIoU", "", True, "dense"),
    "pixel_accuracy": Metric("pixel accuracy", "", True, "dense"),
    "rmse": Metric("depth RMSE", "m", False, "dense"),
    "delta1": Metric("depth δ1", "", True, "dense"),
}


@dataclass(frozen=True)
class Row:
    """One number: fractions for accuracies, mIoU and δ1, metres for RMSE; `low`, `high` bound it (95 %, images)."""

    run: str
    arm: str
    seed: int
    step: int
    eval: str
    protocol: str
    protocol_hash: str
    dataset: str
    metric: str
    value: float
    low: float
    high: float
    images: int


COLUMNS = tuple(field.name for field in fields(Row))
IDENTITY = ("run", "arm", "seed", "step", "eval", "protocol", "dataset", "metric")


@dataclass(frozen=True)
class Measurement:
    """A metric with its interval and the outcomes it came from; `row` places it in a run."""

    eval: str
    protocol: str
    protocol_hash: str
    dataset: str
    metric: str
    value: float
    low: float
    high: float
    images: int
    outcomes: Outcomes

    def row(self, *, run: str, arm: str, seed: int, step: int) -> Row:
        mine = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "outcomes"}
        return Row(run=run, arm=arm, seed=seed, step=step, **mine)


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a JSONL file in one write; a fragment that a killed writer left at its end is cut off first."""
    text = "".join(json.dumps(_plain(asdict(row))) + "\n" for row in rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    _mend(path)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def load(path: Path) -> pd.DataFrame:
    """All rows of a file, one per identity: the last written wins. A torn last line is left out.

    Raises:
        BadInput: no such file, or a line inside it that is not a row.
    """
    import pandas as pd

    if not path.is_file():
        raise BadInput(f"got no file at {path}: want a results.jsonl; do run the experiment or the evaluation first")
    *lines, tail = path.read_text(encoding="utf-8").split("\n")
    rows = [_parse(line, path, number) for number, line in enumerate(lines, 1) if line.strip()]
    if _is_row(tail):
        rows.append(json.loads(tail))
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"value": float, "low": float, "high": float})
    return frame.drop_duplicates(list(IDENTITY), keep="last").reset_index(drop=True)


def save_outcomes(folder: Path, measurement: Measurement) -> Path:
    """Write the per-image outcomes of an evaluation to `<eval>-<dataset>-<protocol>.npz`, whole or not at all."""
    name = f"{measurement.eval}-{measurement.dataset}-{measurement.protocol}.npz".replace(os.sep, "_")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.{os.getpid()}"
    with partial.open("wb") as file:
        np.savez_compressed(
            file, allow_pickle=False, **measurement.outcomes, protocol_hash=np.array(measurement.protocol_hash)
        )
    partial.replace(folder / name)
    return folder / name


def load_outcomes(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `save_outcomes` wrote; nothing is unpickled."""
    if not path.is_file():
        raise BadInput(f"got no file at {path}: want saved outcomes (.npz); do evaluate with outcomes kept")
    with np.load(path, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files if name != "protocol_hash"}


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    # NaN is not JSON: a strict reader would lose the whole file to it
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in row.items()}


def _is_row(line: str) -> bool:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and set(COLUMNS) <= set(row)


def _parse(line: str, path: Path, number: int) -> dict[str, Any]:
    if not _is_row(line):
        raise BadInput(f"got a line that is no result row at {path}:{number}: want {', '.join(COLUMNS)}; do remove it")
    return json.loads(line)


def _mend(path: Path) -> None:
    content = path.read_bytes() if path.is_file() else b""
    if not content or content.endswith(b"\n"):
        return
    tail = content[content.rfind(b"\n") + 1 :]
    with path.open("r+b") as file:
        if _is_row(tail.decode("utf-8", errors="replace")):
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        else:
            file.truncate(len(content) - len(tail))
