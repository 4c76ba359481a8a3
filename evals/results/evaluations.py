"""The evaluations of a checkpoint, found by the per-image outcomes that they left on disk.

Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.disk import matching
from common.errors import BadInput
from common.steps import folders_by_step
from evals.results.bootstrap import value
from evals.results.outcomes import ABOUT, load_outcomes
from evals.results.table import Outcomes, default_folder


class EvaluationKey(NamedTuple):
    """What an evaluation is: those of A and B with equal keys are compared."""

    eval: str
    dataset: str
    split: str
    protocol: str
    size: int
    protocol_hash: str

    def __str__(self) -> str:
        return f"{self.eval} on {self.dataset}/{self.split}, {self.protocol} at {self.size} px"


@dataclass(frozen=True)
class Evaluation:
    """Per-image outcomes from disk."""

    path: Path
    backbone: str
    data: str
    against: str
    metrics: tuple[str, ...]
    outcomes: Outcomes

    @property
    def keys(self) -> np.ndarray:
        return self.outcomes["keys"]


def find(address: str) -> dict[EvaluationKey, Evaluation]:
    """All evaluations of a checkpoint, by what they are.

    Those in the folder that is named come first; the default folder of evals/run.py adds what is missing there. Files
    of other weights than those of the newest file in the first place that has any are left out.

    Args:
        address: a folder with outcomes, or with a folder `outcomes`; or a backbone as it was given to evals/run.py.

    Raises:
        BadInput: no outcomes there, or files that are damaged or do not say what they are.
    """
    own, default = Path(address), default_folder(address)
    found: dict[EvaluationKey, Evaluation] = {}
    weights = ""
    for place in (own / "outcomes", own, default / "outcomes"):
        files = [*matching(place, "[!.]*.npz"), *matching(place, "[!.]*/[!.]*.npz")]
        paths = sorted(files, key=lambda path: (-path.stat().st_mtime_ns, path.name))
        for about, evaluation in map(read, paths):
            weights = weights or evaluation.backbone
            if evaluation.backbone == weights:
                found.setdefault(about, evaluation)
    if not found:
        raise BadInput(
            f"got no outcomes (.npz) of {address}, neither in {own / 'outcomes'} nor in {default / 'outcomes'}: "
            f"want an evaluated checkpoint; do {_way_on(own)}"
        )
    return found


def _way_on(address: Path) -> str:
    """What to do about an address without outcomes: name a step below it or beside it, correct it, or evaluate it."""
    if below := _steps(address) or [step for folder in sorted(address.glob("*/")) for step in _steps(folder)]:
        return f"name one of its steps, as {below[-1]}"
    if address.exists() or ":" in str(address):
        return f"run: python evals/run.py {address}"
    if beside := _steps(address.parent):
        return f"name a step that {address.parent} has: {', '.join(step.name for step in beside)}"
    return f"correct the name, since {address} is not there"


def _steps(folder: Path) -> list[Path]:
    """The folders of evaluated steps of a job."""
    return [*folders_by_step(folder).values()]


def read(path: Path) -> tuple[EvaluationKey, Evaluation]:
    """What a file of outcomes is, and the evaluation in it.

    Raises:
        BadInput: a file that is damaged or does not say what its outcomes are, or of a metric that is unknown.
    """
    outcomes = load_outcomes(path)
    if missing := [name for name in (*ABOUT, "metrics", "keys") if name not in outcomes]:
        raise BadInput(
            f"got {path} without {', '.join(missing)}: want outcomes that say what they are; do evaluate again"
        )
    texts = {name: str(outcomes[name]) for name in ("eval", "dataset", "split", "protocol", "protocol_hash")}
    about = EvaluationKey(**texts, size=int(outcomes["size"]))
    metrics = tuple(str(name) for name in np.atleast_1d(outcomes["metrics"]))
    images = {name: x for name, x in outcomes.items() if name not in (*ABOUT, "metrics")}
    for name in metrics:
        try:
            value(name, images)
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from error
        except (KeyError, IndexError, ValueError) as error:
            raise BadInput(f"got {path} without all that {name} is computed from: do evaluate again") from error
    backbone, data, against = (str(outcomes[name]) for name in ("backbone", "data", "against"))
    return about, Evaluation(path, backbone, data, against, metrics, images)
