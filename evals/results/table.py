"""Result rows and the per-image outcomes behind them: measured, appended, read back. Imports no torch."""

from __future__ import annotations

import json
import math
import os
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from common.disk import whole
from common.errors import BadInput

if TYPE_CHECKING:
    import pandas as pd

Outcomes = Mapping[str, np.ndarray]  # "keys" [n] names the images; every other array has n rows


class Metric(NamedTuple):
    """How a metric is written and read.

    `kind` says which side of the dense-vs-global trade-off it measures, or that it is a label-free sign of health;
    a `share` lies in 0..1 and is read as per cent.
    """

    label: str
    higher_is_better: bool
    kind: Literal["global", "dense", "health"]
    unit: str = ""
    share: bool = False


METRICS: dict[str, Metric] = {
    "top1": Metric("top-1 accuracy", True, "global", share=True),
    "top5": Metric("top-5 accuracy", True, "global", share=True),
    "miou": Metric("mIoU", True, "dense", share=True),
    "pixel_accuracy": Metric("pixel accuracy", True, "dense", share=True),
    "mean_accuracy": Metric("mean class accuracy", True, "dense", share=True),
    "fscore": Metric("F-score", True, "dense", share=True),
    "precision": Metric("precision", True, "dense", share=True),
    "recall": Metric("recall", True, "dense", share=True),
    "dice": Metric("Dice", True, "dense", share=True),
    "rmse": Metric("depth RMSE", False, "dense", unit="m"),
    "delta1": Metric("depth δ1", True, "dense", share=True),
    "delta2": Metric("depth δ2", True, "dense", share=True),
    "delta3": Metric("depth δ3", True, "dense", share=True),
    "abs_rel": Metric("depth AbsRel", False, "dense"),
    "sq_rel": Metric("depth SqRel", False, "dense", unit="m"),
    "mae": Metric("depth MAE", False, "dense", unit="m"),
    "log10": Metric("depth log10", False, "dense"),
    "rmse_log": Metric("depth RMSE of logs", False, "dense"),
    "silog": Metric("depth SILog", False, "dense"),
    "dse": Metric("DSE", True, "health"),
    "dse_inter": Metric("DSE, between clusters", True, "health"),
    "dse_intra": Metric("DSE, within clusters", False, "health"),
    "dse_dim": Metric("DSE, dimensions", True, "health"),
    "cls_patch_cosine": Metric("CLS-patch cosine", False, "health"),
    "locality": Metric("locality", True, "health"),
    "effective_rank": Metric("effective rank", True, "health"),
    "rankme": Metric("RankMe", True, "health"),
    "norm_outliers": Metric("patch-norm outliers", False, "health", share=True),
    "gram_drift": Metric("Gram drift", False, "health"),
}
RELATIVE = frozenset({"gram_drift"})  # what a reference backbone enters, beside others that it leaves as they are


def write_number(metric: Metric, number: float, *, like: float, sign: str = "") -> str:
    """A number for reading, shares as per cent, with the decimal places that a value of the size of `like` needs."""
    if metric.share:
        return f"{100 * number:{sign}.2f}"
    size = abs(like) if math.isfinite(like) and like else 1.0
    if not 1e-3 <= size < 1e6:
        return f"{number:{sign}.2e}"
    return f"{number:{sign}.{max(3 - math.floor(math.log10(size)), 1)}f}"


def metric_of(name: str) -> Metric:
    """How a metric is written and read; one with a tag, `top1@10`, as the metric that it is a case of.

    Raises:
        BadInput: an unknown metric.
    """
    base, _, tag = name.partition("@")
    if base not in METRICS:
        raise BadInput(f"got metric {name!r}: want one of {', '.join(METRICS)}; do correct the name")
    metric = METRICS[base]
    return metric._replace(label=f"{metric.label} @{tag}") if tag else metric


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
ABOUT = ("eval", "dataset", "protocol", "protocol_hash", "size", "split", "data", "against", "backbone")


@dataclass(frozen=True, kw_only=True)
class Measurement(Value):
    """A value with the outcomes it came from.

    `against` is a hash of what else the value depends on, the training set of the head or the reference backbone;
    `backbone` the fingerprint of the weights.
    """

    outcomes: Outcomes
    against: str = ""
    backbone: str = ""

    def row(self, *, run: str, arm: str, seed: int, step: int) -> Row:
        value = {field.name: getattr(self, field.name) for field in fields(Value)}
        return Row(run=run, arm=arm, seed=seed, step=step, **value)


def append(path: Path, rows: Iterable[Row]) -> None:
    """Add rows to a JSONL file in one write; a fragment that a killed writer left at its end is cut off first."""
    text = "".join(json.dumps(_plain(row)) + "\n" for row in rows)
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


def outcomes_name(eval: str, dataset: str, split: str, protocol: str, protocol_hash: str, size: int) -> str:
    """The file of an evaluation's per-image outcomes."""
    return re.sub(r"[^\w.@-]+", "_", f"{eval}-{dataset}-{split}-{protocol}-{size}px-{protocol_hash}") + ".npz"


def save_outcomes(folder: Path, measurements: Iterable[Measurement]) -> list[Path]:
    """Write the per-image outcomes of each evaluation, whole or not at all, with what they are outcomes of."""
    files: dict[str, list[Measurement]] = {}
    for m in measurements:
        name = outcomes_name(m.eval, m.dataset, m.split, m.protocol, m.protocol_hash, m.size)
        files.setdefault(name, []).append(m)
    for name, (first, *others) in files.items():
        about = {key: np.array(getattr(first, key)) for key in ABOUT}
        metrics = np.array([first.metric, *(m.metric for m in others)])
        with whole(folder / name) as fragment:
            np.savez_compressed(fragment, allow_pickle=False, **first.outcomes, **about, metrics=metrics)
    return [folder / name for name in files]


def load_outcomes(path: Path) -> dict[str, np.ndarray]:
    """The arrays that `save_outcomes` wrote, `ABOUT` and `metrics` among them; nothing is unpickled.

    Raises:
        BadInput: no such file, or a damaged one.
    """
    if not path.is_file():
        raise BadInput(f"got no file at {path}: want saved outcomes (.npz); do evaluate with outcomes kept")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"got unreadable outcomes {path} ({error}): want a whole .npz; do evaluate again") from error


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
