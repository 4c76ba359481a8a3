"""The table of results, `results.jsonl`: what a row holds, how rows are added and read back.

Imports no torch.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from common import disk
from common.bounds import Natural, Whole
from common.errors import BadInput
from common.records import Lines, Number, Step, read_line, read_lines

if TYPE_CHECKING:
    import pandas as pd

Measured = Annotated[Number, BeforeValidator(lambda value: math.nan if value is None else value)]  # null is NaN
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
    size: Natural
    dataset: str
    split: str
    data: str
    metric: str
    value: Measured
    low: Measured
    high: Measured
    images: Natural


@dataclass(frozen=True, kw_only=True)
class Row(Value):
    """A value and its place in a run."""

    run: str
    arm: str
    seed: Whole
    step: Step

    @property
    def identity(self) -> tuple[Any, ...]:
        """What it is a value of: all but `data` and the numbers."""
        return tuple(getattr(self, name) for name in IDENTITY)


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
    """Add rows to a JSONL file, on disk when it returns; a fragment that a killed writer left is cut off first.

    Several processes may add to one file.
    """
    text = "".join(line(row) + "\n" for row in rows)
    with disk.alone(path.parent):
        _mend(path)
        disk.append(path, text)


def line(row: Row) -> str:
    """A row as the table holds it."""
    return json.dumps(plain(row))


def plain(row: Row) -> dict[str, Any]:
    """A row for JSON, which knows no NaN: a strict reader would lose the whole file to it."""
    given = {name: getattr(row, name) for name in COLUMNS}
    return {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in given.items()}


def read(path: Path) -> Lines[Row]:
    """The rows of a file, one per identity, of which the last written wins; none where there is no file.

    Raises:
        BadInput: a folder lies there, or a link to nowhere.
    """
    found = read_lines(path, Row)
    return found._replace(rows=latest(found.rows))


def latest(rows: Iterable[Row]) -> list[Row]:
    """One row per identity, the last; in the order in which these were written."""
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        found.pop(row.identity, None)
        found[row.identity] = row
    return list(found.values())


def load(path: Path) -> pd.DataFrame:
    """The rows of a file as a data frame. A torn last line is left out.

    Raises:
        BadInput: no such file, or a line inside it that is not a row.
    """
    import pandas as pd

    if not path.is_file():
        raise BadInput(f"got no file at {path}: want a results.jsonl; do run the experiment or the evaluation first")
    found = read(path)
    ended = path.read_bytes().count(b"\n")
    if inside := [said for number, said in found.damaged.items() if number <= ended]:
        raise BadInput(
            f"got a line that is no result row at {inside[0]}: want {', '.join(COLUMNS)}; do move the file away, "
            "where an older version wrote it, or the line"
        )
    return pd.DataFrame([asdict(row) for row in found.rows], columns=list(COLUMNS)).astype(
        {"value": float, "low": float, "high": float}
    )


def default_folder(spec: str) -> Path:
    """Where `evals/run.py` keeps what it found for a backbone, unless told otherwise."""
    return Path("runs", "evals", re.sub(r"[^\w.-]+", "-", spec).strip("-.") or "backbone")


def _mend(path: Path) -> None:
    """End the last line, where it is a row or none of ours, or cut off the part of a row that is left there."""
    content = path.read_bytes() if path.is_file() else b""
    if not content or content.endswith(b"\n"):
        return
    tail = content[content.rfind(b"\n") + 1 :]
    with path.open("r+b") as file:
        if _is_part_of_a_row(tail):
            file.truncate(len(content) - len(tail))
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")


def _is_part_of_a_row(line: bytes) -> bool:
    start = b'{"run": "'
    try:
        read_line(line, Row)
    except ValueError:
        return line.startswith(start) or start.startswith(line)
    return False
