"""The table of tasks: which code carries out which protocol."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from common.errors import BadInput
from evals.datasets.labelled_set import LabelledSet
from evals.protocols import reading
from evals.protocols.protocol import Protocol
from evals.tasks import clustering, knn, logreg, retrieval
from evals.tasks.depth import published as depth_live
from evals.tasks.depth import quick as depth
from evals.tasks.depth.settings import PublishedDepth
from evals.tasks.health import health
from evals.tasks.health.settings import Health
from evals.tasks.linear import published as linear_live
from evals.tasks.linear import quick as linear
from evals.tasks.segmentation import published as segmentation_live
from evals.tasks.segmentation import quick as segmentation

Watch = Callable[[str, LabelledSet, int, np.ndarray], None]  # as a protocol's, with the task and its test set


class Method(NamedTuple):
    """How protocols of one kind are carried out.

    `food` is what `evaluate` takes after the protocol: "features", those of the training and of the test set; "test",
    those of the test set alone; "live", the backbone and both sets, for methods that augment. `dense` ones need the
    patches; those that `compare` also take the same features of a reference backbone; those that predict `pixels`
    show their predictions to whoever watches.
    """

    settings: type[Protocol]
    evaluate: Callable[..., dict[str, np.ndarray]]
    metrics: Callable[[Any], tuple[str, ...]]
    food: Literal["features", "test", "live"] = "features"
    dense: bool = False
    compares: bool = False
    pixels: bool = False


_METHODS = (
    Method(knn.Knn, knn.evaluate, knn.metrics),
    Method(linear.QuickLinear, linear.evaluate, linear.metrics),
    Method(linear_live.PublishedLinear, linear_live.evaluate, linear_live.metrics, "live"),
    Method(logreg.Logreg, logreg.evaluate, logreg.metrics),
    Method(segmentation.QuickSegmentation, segmentation.evaluate, segmentation.metrics, dense=True, pixels=True),
    Method(
        segmentation_live.PublishedSegmentation,
        segmentation_live.evaluate,
        segmentation_live.metrics,
        "live",
        pixels=True,
    ),
    Method(depth.QuickDepth, depth.evaluate, depth.metrics, dense=True, pixels=True),
    Method(PublishedDepth, depth_live.evaluate, depth_live.metrics, "live", pixels=True),
    Method(retrieval.Retrieval, retrieval.evaluate, retrieval.metrics, dense=True, pixels=True),
    Method(clustering.Clustering, clustering.evaluate, clustering.metrics, "test", dense=True, pixels=True),
    Method(Health, health.evaluate, health.metrics, "test", dense=True, compares=True),
)


METHODS = {method.settings.method: method for method in _METHODS}


TASKS = tuple(dict.fromkeys(method.settings.task for method in _METHODS))


def protocol_of(choice: str) -> Protocol:
    """The settings that a name stands for: a protocol's, a .yaml file's, or a task's for its quickest protocol.

    Raises:
        BadInput: an unknown name, or a file that does not fit.
    """
    name = variants(choice)[0] if choice in TASKS else choice
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
