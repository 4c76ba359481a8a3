"""The features of one backbone under evaluation, each set extracted once for all tasks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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


class Shelf:
    """The features of one backbone: each set once per view, capped sets out of whole ones where these are there."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
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
            whole = extract(**vars(self._subject), dataset=dataset, view=view, dense=dense, precision=precision)
            self._seen[content, view] = whole
        return whole

    def _find(self, content: tuple[str, ...], view: View, dense: bool) -> FeatureSet | None:
        found = self._seen.get((content, view))
        if (found is None or dense > (found.tokens is not None)) and view == View("crop", view.size):
            uncut = self._seen.get((content, View("whole", view.size)))
            found = uncut if uncut is not None and uncut.square else found
        return found if found is not None and dense <= (found.tokens is not None) else None
