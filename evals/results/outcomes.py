"""Per-image outcomes on disk: what each image contributed to a value, so that checkpoints are compared by image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

import numpy as np

from common.disk import whole
from common.errors import BadInput, first_line
from evals.results.table import Measurement

ABOUT = ("eval", "dataset", "protocol", "protocol_hash", "size", "split", "data", "against", "backbone")


class Evaluated(Protocol):
    """What tells an evaluation from others: a row has it, a measurement, and a column of a report."""

    @property
    def eval(self) -> str: ...
    @property
    def dataset(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def protocol_hash(self) -> str: ...
    @property
    def size(self) -> int: ...


def outcomes_name(eval: str, dataset: str, split: str, protocol: str, protocol_hash: str, size: int) -> str:
    """The file of an evaluation's per-image outcomes."""
    return re.sub(r"[^\w.@-]+", "_", f"{eval}-{dataset}-{split}-{protocol}-{size}px-{protocol_hash}") + ".npz"


def outcomes_of(one: Evaluated) -> str:
    """The same, of the evaluation that a row, a measurement or a column is of."""
    return outcomes_name(one.eval, one.dataset, one.split, one.protocol, one.protocol_hash, one.size)


def save_outcomes(folder: Path, measurements: Iterable[Measurement]) -> list[Path]:
    """Write the per-image outcomes of each evaluation, whole or not at all, with what they are outcomes of."""
    files: dict[str, list[Measurement]] = {}
    for m in measurements:
        files.setdefault(outcomes_of(m), []).append(m)
    for name, (first, *others) in files.items():
        about = {key: np.array(getattr(first, key)) for key in ABOUT}
        metrics = np.array([first.metric, *(m.metric for m in others)])
        with whole(folder / name) as new:
            np.savez_compressed(new, allow_pickle=False, **first.outcomes, **about, metrics=metrics)
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
            found = {name: archive[name] for name in archive.files}
    except Exception as error:  # damage is a dozen kinds of error in zipfile, zlib, tokenize and numpy
        said = first_line(error)
        raise BadInput(f"got unreadable outcomes {path} ({said}): want a whole .npz; do evaluate again") from error
    if wrong := next(_wrong(found), ""):
        raise BadInput(f"got {path} with {wrong}: want outcomes as they were saved; do evaluate again")
    return found


def _wrong(found: dict[str, np.ndarray]) -> Iterator[str]:
    """What cannot be outcomes: names of as many images as there are rows of numbers, and what they are outcomes of."""
    images = found["keys"].shape if "keys" in found else ()
    for name, array in found.items():
        text = name in ("keys", "metrics") or (name in ABOUT and name != "size")
        if array.dtype.kind not in ("U" if text else "iu" if name == "size" else "biuf"):
            yield f"{name} of type {array.dtype}"
        elif array.ndim > 0 if name in ABOUT else array.ndim > 1 if name == "metrics" else array.shape[:1] != images:
            yield f"{name} of shape {array.shape} for {len(found.get('keys', ()))} images"
