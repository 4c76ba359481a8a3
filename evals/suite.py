"""All evaluations of one backbone: features once per set and layout, every task on them, every metric with interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from evals import depth, knn, linear, segmentation, statistics
from evals.backbone import Backbone
from evals.errors import BadInput
from evals.features import FeatureSet, Precision, extract
from evals.protocol import Layout, Protocol
from evals.results import Measurement

if TYPE_CHECKING:
    from evals.datasets.base import LabelledSet


class Task(NamedTuple):
    """An evaluation: its settings, its function from features to per-image outcomes, the metrics read off them."""

    protocol: Callable[[], Protocol]
    evaluate: Callable[..., dict[str, np.ndarray]]
    metrics: tuple[str, ...]


TASKS: dict[str, Task] = {
    "knn": Task(knn.Knn, knn.evaluate, knn.METRICS),
    "linear": Task(linear.Linear, linear.evaluate, linear.METRICS),
    "segmentation": Task(segmentation.Segmentation, segmentation.evaluate, segmentation.METRICS),
    "depth": Task(depth.Depth, depth.evaluate, depth.METRICS),
}


@dataclass(frozen=True)
class TaskSpec:
    """What to evaluate: a protocol, or the name of a task for its default protocol, and the two sets."""

    protocol: Protocol | str
    train_set: LabelledSet
    test_set: LabelledSet


def protocol_of(choice: Protocol | str) -> Protocol:
    """The settings that a name stands for. Raises BadInput for an unknown name."""
    if isinstance(choice, Protocol):
        return choice
    if choice not in TASKS:
        raise BadInput(f"got evaluation {choice!r}: want one of {', '.join(TASKS)}; do correct the name")
    return TASKS[choice].protocol()


def evaluate(
    backbone: Backbone,
    tasks: Mapping[str, TaskSpec],
    *,
    size: int,
    batch_size: int = 64,
    device: str | torch.device | None = None,
    precision: Precision = "float32",
    cache: Path | None = None,
) -> list[Measurement]:
    """One measurement per metric of each task; the model and the global random state stay as they were.

    Args:
        size: short side of the input in pixels.
        device: where features are computed and heads are fitted; None stays with the backbone.
        cache: folder for features on disk, see `evals.features.extract`.

    Raises:
        BadInput: from any task, with the task's name in front.
    """
    device = backbone.device if device is None else torch.device(device)
    seen: dict[tuple[str, ...], FeatureSet] = {}

    def features(dataset: LabelledSet, layout: Layout) -> FeatureSet:
        content = (dataset.name, dataset.split, dataset.fingerprint())
        whole = seen.get((*content, "whole"))
        if whole is not None and whole.square:
            return whole
        if (*content, layout) not in seen:
            seen[*content, layout] = extract(
                backbone, dataset, layout=layout, size=size, batch_size=batch_size, device=device,
                precision=precision, cache=cache,
            )  # fmt: skip
        return seen[*content, layout]

    def run(name: str) -> list[Measurement]:
        spec = tasks[name]
        try:
            protocol = protocol_of(spec.protocol)
            train, test = features(spec.train_set, protocol.layout), features(spec.test_set, protocol.layout)
            outcomes = TASKS[protocol.family].evaluate(protocol, train, test, device=device)
        except BadInput as error:
            raise type(error)(f"evaluation {name}: {error}") from error
        return [
            measure(protocol, metric, outcomes, size=size, dataset=spec.test_set.name)
            for metric in TASKS[protocol.family].metrics
        ]

    # dense tasks first: what they extract from square images serves the other tasks too
    found = {name: run(name) for name in sorted(tasks, key=lambda name: not _is_dense(tasks[name].protocol))}
    return [measurement for name in tasks for measurement in found[name]]


def _is_dense(choice: Protocol | str) -> bool:
    family = choice.family if isinstance(choice, Protocol) else choice
    return family in TASKS and TASKS[family].protocol().layout == "whole"


def measure(
    protocol: Protocol, metric: str, outcomes: dict[str, np.ndarray], *, size: int, dataset: str
) -> Measurement:
    """A metric of these outcomes with its bootstrap interval over images."""
    value, low, high = statistics.interval(metric, outcomes)
    return Measurement(
        eval=protocol.family,
        protocol=protocol.id,
        protocol_hash=protocol.hash(size),
        dataset=dataset,
        metric=metric,
        value=value,
        low=low,
        high=high,
        images=len(outcomes["keys"]),
        outcomes=outcomes,
    )
