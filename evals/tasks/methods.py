"""The table of tasks: which code carries out which protocol, and what it needs for it."""

from __future__ import annotations

import typing
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from common.errors import BadInput, nearest
from evals.datasets.labelled_set import LabelledSet
from evals.judging import pixel_classes
from evals.protocols import reading
from evals.protocols.protocol import Protocol
from evals.results.table import Outcomes
from evals.tasks import boundaries, clustering, knn, logreg, normals, retrieval
from evals.tasks.depth import errors
from evals.tasks.depth import published as published_depth
from evals.tasks.depth import quick as quick_depth
from evals.tasks.health import health
from evals.tasks.linear import published as published_linear
from evals.tasks.linear import quick as quick_linear
from evals.tasks.segmentation import published as published_segmentation
from evals.tasks.segmentation import quick as quick_segmentation


class TaskFile(typing.Protocol):
    """What the file of a task offers: its metrics by name, the leading one first, and the outcomes of each image."""

    def metrics(self, protocol: Any, /) -> tuple[str, ...]: ...
    def evaluate(self, *given: Any, **options: Any) -> dict[str, np.ndarray]: ...


class Method(NamedTuple):
    """How protocols of one method are carried out: their settings, and the file that evaluates by them.

    `takes` is what `evaluate` is given after the protocol: the "features" of the training and of the test set, those of
    the "test set" alone, or the "backbone" and both sets, for methods that augment images. `dense` ones need the
    patches; those that `compare` also take the same features of a reference backbone; those that predict `pixels`
    show their predictions to whoever watches. `preconditions` are given the protocol and both sets, and refuse what
    names and counts alone show to be impossible. `cost`: seconds of a core for the quick tasks on 512 and 256 rooms at
    224 pixels by a ViT-S, extraction aside, and a guess for the others; several processes begin with the longest.
    """

    settings: type[Protocol]
    file: TaskFile
    takes: Literal["features", "test set", "backbone"] = "features"
    dense: bool = False
    compares: bool = False
    pixels: bool = False
    preconditions: Callable[..., None] | None = None
    cost: float = 1.0


# By the word that a protocol's file gives as `method`, which its hash covers; tasks run in this order
METHODS: dict[str, Method] = {
    "knn": Method(knn.Knn, knn, preconditions=knn.preconditions, cost=0.02),
    "linear": Method(quick_linear.QuickLinear, quick_linear, preconditions=quick_linear.preconditions, cost=0.4),
    "linear_live": Method(
        published_linear.PublishedLinear,
        published_linear,
        "backbone",
        preconditions=published_linear.preconditions,
        cost=1e4,
    ),
    "logreg": Method(logreg.Logreg, logreg, preconditions=logreg.preconditions, cost=1.0),
    "segmentation": Method(quick_segmentation.QuickSegmentation, quick_segmentation, dense=True, pixels=True, cost=4.9),
    "segmentation_live": Method(
        published_segmentation.PublishedSegmentation, published_segmentation, "backbone", pixels=True, cost=1e5
    ),
    "depth": Method(quick_depth.QuickDepth, quick_depth, dense=True, pixels=True, cost=1.1),
    "depth_live": Method(published_depth.PublishedDepth, published_depth, "backbone", pixels=True, cost=1e5),
    "normals": Method(normals.QuickNormals, normals, dense=True, pixels=True, cost=3.3),
    "boundaries": Method(boundaries.QuickBoundaries, boundaries, dense=True, pixels=True, cost=4.2),
    "retrieval": Method(retrieval.Retrieval, retrieval, dense=True, pixels=True, cost=5.3),
    "clustering": Method(clustering.Clustering, clustering, "test set", dense=True, pixels=True, cost=2.1),
    "health": Method(
        health.Health, health, "test set", dense=True, compares=True, preconditions=health.preconditions, cost=4.1
    ),
}
TASKS = tuple(dict.fromkeys(method.settings.task for method in METHODS.values()))


def protocol_of(choice: str) -> Protocol:
    """The settings that a name stands for: a protocol's, a .yaml file's, or a task's for its quickest protocol.

    Raises:
        BadInput: an unknown name, or a file that does not fit.
    """
    name = variants(choice)[0] if choice in TASKS else choice
    if name not in reading.names() and not name.endswith((".yaml", ".yml")):
        known = (*TASKS, *reading.names())
        hint = nearest(name, known, otherwise="the quick protocol of a task has the task's name")
        raise BadInput(f"got protocol {name!r}: want a .yaml file or one of {', '.join(known)}; {hint}")
    method = reading.read(name).get("method")
    if not isinstance(method, str) or method not in METHODS:
        place = reading.place_of(name)
        raise BadInput(f"got method {method!r} in {place}: want one of {', '.join(METHODS)}; do correct it")
    return reading.load(name, METHODS[method].settings)


def variants(task: str) -> tuple[str, ...]:
    """The protocols that ship for a task, the quickest first; they are named `<task>-<variant>`."""
    speeds = ("quick", "standard", "paper", "code")
    ours = {name.rpartition("-")[2]: name for name in reading.names() if name.rpartition("-")[0] == task}
    return tuple(ours[speed] for speed in (*(s for s in speeds if s in ours), *sorted(ours.keys() - set(speeds))))


def method_of(protocol: Protocol) -> Method:
    return METHODS[protocol.method]


def notes_on(protocol: Protocol, dataset: LabelledSet, outcomes: Outcomes) -> tuple[str, ...]:
    """What the outcomes on a test set tell of what is known about it, for who reads the values."""
    match protocol.needs:
        case "pixel classes":
            return tuple(pixel_classes.notes(dataset, outcomes))
        case "depth":
            return tuple(errors.notes(protocol, dataset, outcomes))
        case "surface normals":
            return tuple(normals.notes(dataset, outcomes))
        case "parts":
            return tuple(boundaries.notes(dataset, outcomes))
        case "image classes" | "images":
            return ()
