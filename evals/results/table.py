"""The table of results, `results.jsonl`: what a row holds, how rows are added and read back.

Imports no torch.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from common import disk
from common.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

Outcomes = Mapping[str, np.ndarray]  # "keys" [n] names the images; every other array has n rows


@dataclass(frozen=True, kw_only=True)
class Value:
    """One number in its metric's unit, shares as fractions; `low` and `high` bound it (95 %, over images).

    `size` is the short side of the input in pixels, `split` the part of the data set that was judged, and `data` eight
    hex digits of its files and class list.
    """

    eval: str
    protocol: str
    protocol_hash: str
    size: int
    dataset: str
    split: str
    data: str
    metric: str
    value: float
    low: float
    high: float
    images: int


@dataclass(frozen=True, kw_only=True)
class Row(Value):
    """A value and its place in a run."""

    run: str
    arm: str
    seed: int
    step: int


_PLACE = ("run", "arm", "seed", "step")
COLUMNS = (*_PLACE, *(field.name for field in fields(Value)))
IDENTITY = (*_PLACE, "eval", "protocol", "protocol_hash", "size", "dataset", "split", "metric")


@dataclass(frozen=True, kw_only=True)
class Measurement(Value):
    """A value with the outcomes it came from.

    `against` is a hash of what else the value depends on, the training set of the head or the reference backbone;
    `backbone` the fingerprint of the weights; `notes` tell what of the truth was there to be judged.
    """

    outcomes: Outcomes
    against: str = ""
    backbone: str = ""
    notes: tuple[str, ...] = ()

    def row(self, *, run: str, arm: str, seed: int, step: int) -> Row:
        value = {field.name: getattr(self, field.name) for field in fields(Value)}
        return Row(run=run, arm=arm, seed=seed, step=step, **value)


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a JSONL file, on disk when it returns; a fragment that a killed writer left is cut off first."""
    text = "".join(json.dumps(_plain(row)) + "\n" for row in rows)
    _mend(path)
    disk.append(path, text)


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


def default_folder(spec: str) -> Path:
    """Where `evals/run.py` keeps what it found for a backbone, unless told otherwise."""
    return Path("runs", "evals", re.sub(r"[^\w.-]+", "-", spec).strip("-.") or "backbone")


def _plain(row: Row) -> dict[str, Any]:
    # NaN is not JSON: a strict reader would lose the whole file to it
    given = {name: getattr(row, name) for name in COLUMNS}
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in given.items()}


def _is_row(line: str) -> bool:
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and set(COLUMNS) <= set(row)


def _parse(line: str, path: Path, number: int) -> dict[str, Any]:
    if not _is_row(line):
        raise BadInput(
            f"got a line that is no result row at {path}:{number}: want {', '.join(COLUMNS)}; do move the file away, "
            "where an older version wrote it, or the line"
        )
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
