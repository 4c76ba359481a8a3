"""One task of one backbone: what it is, what each image contributes, and every metric with its interval."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from evals.backbones.backbone import Backbone
from evals.datasets.labelled_set import LabelledSet
from evals.datasets.subset import spread_subset
from evals.features.feature_set import FeatureSet
from evals.features.shelf import Shelf, Subject
from evals.protocols.protocol import Protocol
from evals.results import bootstrap
from evals.results.metrics import METRICS
from evals.results.table import Measurement, Outcomes
from evals.tasks.methods import method_of, notes_on


@dataclass(frozen=True)
class TaskSpec:
    """What to evaluate: a protocol and the two sets; protocols of the test set alone take no other."""

    protocol: Protocol
    train_set: LabelledSet | None
    test_set: LabelledSet

    def at(self, size: int) -> TaskSpec:
        """The same with another short side of the input, in pixels."""
        return replace(self, protocol=replace(self.protocol, size=size))


def sets_of(spec: TaskSpec) -> list[LabelledSet]:
    """The sets of a task, each once."""
    return distinct(one for one in (spec.train_set, spec.test_set) if one)


def distinct(opened: Iterable[LabelledSet]) -> list[LabelledSet]:
    """Each set once, however many tasks have opened it."""
    return list({content(one): one for one in opened}.values())


def content(one: LabelledSet) -> tuple[str, str, str]:
    return one.name, one.split, one.fingerprint()


def urgency(protocol: Protocol) -> tuple[bool, bool]:
    """What is extracted with patches and in full comes first: it serves the others."""
    return not method_of(protocol).dense, protocol.train_images is not None or protocol.test_images is not None


def cost(spec: TaskSpec) -> float:
    """How long it takes beside others, once its features are there: a guess."""
    return method_of(spec.protocol).cost * sum(map(len, sets_of(spec)))


def outcomes_of(
    spec: TaskSpec,
    subject: Subject,
    shelves: Sequence[Shelf],
    *,
    watch: Callable[[LabelledSet, int, np.ndarray], None] | None = None,
) -> Outcomes:
    """The per-image outcomes of one task; a second shelf holds the features of the reference backbone."""
    protocol = spec.protocol
    method = method_of(protocol)
    options: dict[str, Any] = {"device": subject.backbone.device}
    test_set = spread_subset(spec.test_set, protocol.test_images)
    if watch and method.pixels:
        options["watch"] = partial(watch, test_set)
    if method.takes == "backbone":
        assert spec.train_set is not None, "refuse_unfit has seen to that"
        train_set = spread_subset(spec.train_set, protocol.train_images)
        options["workers"] = subject.workers
        return method.file.evaluate(protocol, subject.backbone, train_set, test_set, **options)
    mine, *others = features_of(spec, shelves)
    if others:
        options["reference"] = others[0][-1]
    return method.file.evaluate(protocol, *mine, **options)


def features_of(spec: TaskSpec, shelves: Sequence[Shelf]) -> list[list[FeatureSet]]:
    """What a task is given of each backbone that it compares: features of its sets; nothing where it makes its own."""
    protocol, method = spec.protocol, method_of(spec.protocol)
    if method.takes == "backbone":
        return []
    wanted = [] if method.takes == "test set" else [(spec.train_set, protocol.train_images)]
    wanted.append((spec.test_set, protocol.test_images))
    return [
        [
            shelf.features(s, protocol.view, dense=method.dense, cap=n, precision=protocol.precision)
            for s, n in wanted
            if s is not None
        ]
        for shelf in (shelves if method.compares else shelves[:1])
    ]


def against(spec: TaskSpec, reference: Backbone | None) -> str:
    """What a value depends on beside backbone, protocol and test set."""
    method = method_of(spec.protocol)
    fitted = spec.train_set.fingerprint() if spec.train_set and method.takes != "test set" else ""
    parts = [fitted, reference.fingerprint if reference and method.compares else ""]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16] if any(parts) else ""


def measure(spec: TaskSpec, outcomes: Outcomes, *, data: str, against: str, backbone: str) -> list[Measurement]:
    """Every metric of these outcomes with its bootstrap interval over images; see `Measurement` for the rest."""
    protocol = spec.protocol
    relative = tuple(name for name, metric in METRICS.items() if metric.relative and name in outcomes)
    metrics = method_of(protocol).file.metrics(protocol) + relative
    notes = notes_on(protocol, spread_subset(spec.test_set, protocol.test_images), outcomes)
    return [
        Measurement(
            eval=protocol.task,
            protocol=protocol.id,
            protocol_hash=protocol.hash(),
            size=protocol.size,
            dataset=spec.test_set.name,
            split=spec.test_set.split,
            data=data,
            metric=metric,
            value=value,
            low=low,
            high=high,
            images=len(outcomes["keys"]),
            outcomes=outcomes,
            against=against,
            backbone=backbone,
            notes=notes,
        )
        for metric, (value, low, high) in bootstrap.intervals(metrics, outcomes).items()
    ]
