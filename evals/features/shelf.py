"""The features of one backbone under evaluation, each set extracted once for all tasks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from common.bounded import released
from common.disk import fragment
from common.ranks import ALONE, Ranks
from common.spread import spread
from evals.backbones.backbone import Backbone
from evals.datasets.labelled_set import LabelledSet
from evals.datasets.subset import Subset
from evals.features.extract import Precision, extract
from evals.features.feature_set import FeatureSet
from evals.features.view import View


@dataclass(frozen=True)
class Subject:
    """A backbone under evaluation, and the machinery of its extractions, none of which changes a result."""

    backbone: Backbone
    batch_size: int = 64
    cache: Path | None = None
    workers: int = 0
    ranks: Ranks = ALONE  # who evaluates it together, all in the same way

    def alone(self) -> Subject:
        """The same for this process by itself."""
        return replace(self, ranks=ALONE)


@contextmanager
def shared(subject: Subject, place: Path) -> Iterator[Subject]:
    """The subject with a cache, where several processes have none: beside `place`, and removed behind the block."""
    if subject.ranks.world == 1 or subject.cache is not None:
        yield subject
        return
    ranks = subject.ranks
    with ExitStack() as stack:
        cache = ranks.told(lambda: stack.enter_context(fragment(place)))
        stack.callback(released, cache)
        yield replace(subject, cache=cache)


class Shelf:
    """The features of one backbone: each set once per view, capped sets out of whole ones where these are there."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._seen: dict[tuple[tuple[str, ...], View], FeatureSet] = {}

    def features(
        self,
        dataset: LabelledSet,
        view: View,
        *,
        dense: bool,
        cap: int | None = None,
        precision: Precision = "float32",
    ) -> FeatureSet:
        """Features of a set, or of an evenly spread part of it."""
        content = (dataset.name, dataset.split, dataset.fingerprint(), precision)
        whole = self._find(content, view, dense)
        if cap is not None and cap < len(dataset):
            images = spread(range(len(dataset)), cap)
            part = Subset(dataset, images)
            return whole.select(images, part) if whole else self.features(part, view, dense=dense, precision=precision)
        if whole is None:
            whole = extract(**vars(self.subject), dataset=dataset, view=view, dense=dense, precision=precision)
            self._seen[content, view] = whole
        return whole

    def alone(self) -> Shelf:
        """The same features for this process by itself, which extracts by itself what is not there."""
        found = Shelf(self.subject.alone())
        found._seen = dict(self._seen)
        return found

    def _find(self, content: tuple[str, ...], view: View, dense: bool) -> FeatureSet | None:
        found = self._seen.get((content, view))
        if (found is None or dense > (found.tokens is not None)) and view == View("crop", view.size):
            uncut = self._seen.get((content, View("whole", view.size)))
            found = uncut if uncut is not None and uncut.square else found
        return found if found is not None and dense <= (found.tokens is not None) else None
