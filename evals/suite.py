"""All evaluations of one backbone: features once per set and view, every task on them, every metric with interval."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from common.errors import BadInput
from common.progress import Bar, overheard
from common.spread import spread
from evals.backbones.backbone import Backbone
from evals.datasets.checking.depth_look import refuse_misread_depth
from evals.datasets.checking.mask_look import refuse_misread_masks
from evals.datasets.decoding.unreadable import or_exclude
from evals.datasets.inventory import line
from evals.datasets.labelled_set import LabelledSet, alone, has
from evals.datasets.subset import Renumbered, spread_subset
from evals.features.shelf import Shelf, Subject
from evals.judging.pixel_classes import same_segments
from evals.one_task import (
    TaskSpec,
    against,
    content,
    cost,
    distinct,
    features_of,
    measure,
    outcomes_of,
    sets_of,
    urgency,
)
from evals.protocols.protocol import Protocol
from evals.results.table import Measurement, Outcomes
from evals.tasks.depth.quick import QuickDepth
from evals.tasks.depth.settings import PublishedDepth
from evals.tasks.methods import method_of

log = logging.getLogger("gramlab")
LOOKED = 8  # images that tell whether two sets are one
SuiteWatch = Callable[[str, LabelledSet, int, np.ndarray], None]  # a protocol's `Watch`, with the task and its test set


def paired(protocol: Protocol, train: LabelledSet | None, test: LabelledSet) -> TaskSpec:
    """The task on two sets. A test set that holds some of the training set's classes, or all in another order, is
    numbered by that list, so that a label means the same in both."""
    ours = train.classes if train is not None and protocol.needs == "image classes" else ()
    if ours != test.classes and test.classes and set(test.classes) <= set(ours):
        test = Renumbered(test, ours)
    return TaskSpec(protocol, train, test)


def refuse_unfit(tasks: Mapping[str, TaskSpec], *, where: str = "evaluation ") -> None:
    """Raises BadInput for tasks that names and counts show to be impossible: sets without what a task needs or with
    other classes, a head without images to be fitted on or fitted on those on which it is judged.

    All faults are told, a line each that begins with `where` and the task's name.
    """
    found = []
    for name, spec in tasks.items():
        try:
            _refuse_unfit(spec)
        except BadInput as error:
            found.append(f"{where}{name}: {error}")
    if found:
        raise BadInput("\n".join(found))


def _refuse_unfit(spec: TaskSpec) -> None:
    protocol, method, test = spec.protocol, method_of(spec.protocol), spec.test_set
    train = None if method.takes == "test set" else spec.train_set
    if train is None and method.takes != "test set":
        raise BadInput("got no training set: want one to fit the head on; name it")
    for one in filter(None, (train, test)):
        if not has(one, protocol.needs):
            got = f"got {one.name}/{one.split} without {protocol.needs}"
            raise BadInput(f"{got}: want a set with them{alone(protocol.needs)}; name another")
    if train is not None:
        if _same_images(train, test):
            raise BadInput(
                f"got the same {len(test)} images for training and for judging ({test.name}): want a folder with one "
                "for each split, train and val; name the folder above, or make folders train and val, or a table with "
                "a split column (docs/my-data.md)"
            )
        if protocol.needs == "pixel classes":
            same_segments(train, test)
    if method.preconditions:
        capped = train and spread_subset(train, protocol.train_images)
        method.preconditions(protocol, capped, spread_subset(test, protocol.test_images))


def _same_images(train: LabelledSet, test: LabelledSet) -> bool:
    """Whether two sets are one: files of equal names and sizes may still be other images, so a few are looked at."""
    if len(train) != len(test) or train.fingerprint() != test.fingerprint():
        return False
    try:
        return all(np.array_equal(train.image(at), test.image(at)) for at in spread(range(len(test)), LOOKED))
    except BadInput:  # not to be told apart
        return True


def found_lines(tasks: Mapping[str, TaskSpec]) -> list[str]:
    """A line for each set, training sets first: what it holds and what was passed over."""
    sets = [*(spec.train_set for spec in tasks.values()), *(spec.test_set for spec in tasks.values())]
    return list(dict.fromkeys(line(f"{one.name}/{one.split}", one.found()) for one in sets if one is not None))


def refuse_misread(tasks: Mapping[str, TaskSpec]) -> None:
    """Raises BadInput for masks or depth that would be read as something else; some of each set are read for that."""
    masked = [spec for spec in tasks.values() if spec.protocol.needs == "pixel classes"]
    fitted = distinct(spec.train_set or spec.test_set for spec in masked)
    every = distinct([*fitted, *(spec.test_set for spec in masked)])
    try:
        refuse_misread_masks(fitted, every[len(fitted) :])
        for spec in tasks.values():
            for one in sets_of(spec):
                if limits := _limits(spec.protocol):
                    refuse_misread_depth(one, low=limits[0], high=limits[1])
    except BadInput as error:
        raise or_exclude(error, every_set(tasks)) from error


def valid_depth(tasks: Mapping[str, TaskSpec], dataset: LabelledSet) -> tuple[float, float] | None:
    """Between which metres, exclusive, the depth of a set counts in the first task of depth that takes it."""
    for spec in tasks.values():
        if (limits := _limits(spec.protocol)) and content(dataset) in map(content, sets_of(spec)):
            return limits
    return None


def _limits(protocol: Protocol) -> tuple[float, float] | None:
    depth = isinstance(protocol, QuickDepth | PublishedDepth)
    return (protocol.min_depth, protocol.max_depth) if depth else None


def every_set(tasks: Mapping[str, TaskSpec]) -> list[LabelledSet]:
    """The sets of all tasks, each once."""
    return distinct(one for spec in tasks.values() for one in sets_of(spec))


class Told(NamedTuple):
    """What came of a task; from another process also what it predicts of some images, and the lines that it logs."""

    outcomes: Outcomes
    guesses: list[tuple[int, np.ndarray]]
    lines: list[tuple[int, str]]


def evaluate(
    subject: Subject,
    tasks: Mapping[str, TaskSpec],
    *,
    reference: Backbone | None = None,
    done: Callable[[list[Measurement]], None] = lambda found: None,
    watch: SuiteWatch | None = None,
    wants: Callable[[LabelledSet, int], bool] = lambda dataset, index: True,
    watched: Collection[str] | None = None,
    shelf: Shelf | None = None,
) -> list[Measurement]:
    """One measurement per metric of each task; the model and the global random state stay as they were.

    Several processes extract all features together, and then each takes tasks, the longest first; what comes of them
    is the first one's to measure, and the others are given nothing.

    Args:
        reference: a second backbone, for the measures that compare two (Gram drift).
        done: called with the measurements of each task as soon as it ends.
        watch: called with the predicted pixels of each test image, from the tasks that predict them.
        wants: for which test images `watch` is called where another process predicts them.
        watched: the tasks that it is called from; None is all of these.
        shelf: where the subject's features are put, for who wants them afterwards.

    Raises:
        BadInput: from any task, with the task's name in front.
    """
    refuse_unfit(tasks)
    ranks = subject.ranks
    shelves = [shelf or Shelf(subject), *([Shelf(replace(subject, backbone=reference))] if reference else [])]
    order = sorted(tasks, key=lambda name: urgency(tasks[name].protocol))
    if ranks.world > 1:
        _refuse_unlike(subject, tasks, reference)
        for name in order:
            with _named(name, tasks[name]):
                features_of(tasks[name], shelves)
        shelves, order = [one.alone() for one in shelves], sorted(tasks, key=lambda name: -cost(tasks[name]))
    work = _Work(subject, tasks, reference, shelves, done, watch, wants, watched)
    found: dict[str, list[Measurement]] = {}
    with Bar(total=len(order), desc="evaluations", unit="task") as bar:
        for wave in ranks.dealt(order, partial(work.does, bar)):
            for name, told in wave:
                found[name] = ranks.made(partial(work.measures, name, told))
                bar.update()
    return [measurement for name in tasks for measurement in found[name]]


@dataclass(frozen=True)
class _Work:
    """What `evaluate` is given, and what is done with each task."""

    subject: Subject
    tasks: Mapping[str, TaskSpec]
    reference: Backbone | None
    shelves: list[Shelf]
    done: Callable[[list[Measurement]], None]
    watch: SuiteWatch | None
    wants: Callable[[LabelledSet, int], bool]
    watched: Collection[str] | None

    def does(self, bar: Bar, name: str) -> Told:
        """The outcomes of a task; in all processes but the first with what there is to be told of it."""
        bar.set_postfix_str(name)
        spec, guesses = self.tasks[name], list[tuple[int, np.ndarray]]()
        watch = self.watch if self.watched is None or name in self.watched else None

        def keep(dataset: LabelledSet, index: int, guess: np.ndarray) -> None:
            if self.wants(dataset, index):
                guesses.append((index, guess))

        with _named(name, spec):
            if self.subject.ranks.first:
                seen = partial(watch, name) if watch else None
                return Told(outcomes_of(spec, self.subject, self.shelves, watch=seen), [], [])
            with overheard() as lines:
                outcomes = outcomes_of(spec, self.subject, self.shelves, watch=keep if watch else None)
                return Told(outcomes, guesses, lines)

    def measures(self, name: str, told: Told) -> list[Measurement]:
        """What follows from a task's outcomes, in the first process, which tells it."""
        if not self.subject.ranks.first:
            return []
        spec = self.tasks[name]
        for level, said in told.lines:
            log.log(level, "%s", said)
        if self.watch is not None:
            judged = spread_subset(spec.test_set, spec.protocol.test_images)
            for index, guess in told.guesses:
                self.watch(name, judged, index, guess)
        found = measure(
            spec,
            told.outcomes,
            data=spec.test_set.fingerprint()[:8],
            against=against(spec, self.reference),
            backbone=self.subject.backbone.fingerprint[:16],
        )
        self.done(found)
        return found


@contextmanager
def _named(name: str, spec: TaskSpec) -> Iterator[None]:
    """`BadInput` has the task's name in front."""
    try:
        yield
    except BadInput as error:
        raise type(error)(f"evaluation {name}: {or_exclude(error, sets_of(spec))}") from error


def _refuse_unlike(subject: Subject, tasks: Mapping[str, TaskSpec], reference: Backbone | None) -> None:
    """Raises `BadInput` where another process sees other weights or sets than the first, or means other protocols."""

    def seen() -> Mapping[str, object]:
        weights = [one.fingerprint for one in (subject.backbone, reference) if one]
        own = {name: [spec.protocol.hash(), *map(content, sets_of(spec))] for name, spec in tasks.items()}
        return {f"weights of {subject.backbone.name}": weights} | {
            f"evaluation {name}": one for name, one in own.items()
        }

    first, *others = subject.ranks.made_by_all(seen)
    for number, other in enumerate(others, start=1):
        if unlike := [what for what in first if other.get(what) != first[what]]:
            raise BadInput(
                f"got {unlike[0]} unlike in processes 0 and {number} of torchrun: want all of them to see the same "
                "files; do compare what their machines have there"
            )
