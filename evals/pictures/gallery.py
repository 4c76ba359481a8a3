"""What `--plot` draws: features of a few test images, predictions beside the truth, metrics over the input size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from common.feature_maps import POINTS, Point
from common.spread import spread
from evals.datasets.labelled_set import LabelledSet
from evals.datasets.subset import spread_subset
from evals.features.shelf import Shelf, Subject
from evals.features.view import View, nearest_multiple
from evals.one_task import TaskSpec
from evals.pictures.feature_maps import features_figure, sample
from evals.pictures.predictions import DepthSample, SegmentationSample, depth_figure, segmentation_figure
from evals.pictures.resolution import resolution_figure, series
from evals.pictures.sheet import write
from evals.pictures.surfaces import BoundarySample, NormalSample, boundaries_figure, normals_figure
from evals.results.outcomes import outcomes_name
from evals.results.table import Measurement

IMAGES = 5
Seen = list[tuple[LabelledSet, int, np.ndarray]]  # test images, and what was predicted of each


class Gallery:
    """Remembers what heads predict for a few evenly spread test images, and draws it."""

    def __init__(self, points: Sequence[Point] = POINTS) -> None:
        self._points = points
        self._seen: dict[str, Seen] = {}

    def watch(self, task: str, dataset: LabelledSet, index: int, guess: np.ndarray) -> None:
        """A head's prediction for one test image, as its task describes it."""
        if self.wants(dataset, index):
            self._seen.setdefault(task, []).append((dataset, index, guess))

    def wants(self, dataset: LabelledSet, index: int) -> bool:
        """Whether it draws this image of a test set."""
        return index in spread(range(len(dataset)), IMAGES)

    def write(self, folder: Path, subject: Subject, tasks: Mapping[str, TaskSpec]) -> list[Path]:
        """One picture per test set and one per task that predicts pixels; returns their paths."""
        drawn: dict[str, Path] = {}
        shelf, stride = Shelf(subject), subject.backbone.stride
        who = _short(subject.backbone.name)
        for name, spec in tasks.items():
            settings, judged = spec.protocol, spec.test_set
            title = f"{who}: {settings.task} on {judged.name}/{judged.split} at {settings.size} px ({settings.id})"
            if name in self._seen:
                stem = outcomes_name(
                    settings.task, judged.name, judged.split, settings.id, settings.hash(), settings.size
                )
                figure = DRAWN.get(settings.task, _segmentation)(self._seen.pop(name), title)
                drawn[stem] = write(folder, Path(stem).stem, figure)
            few = spread_subset(spread_subset(judged, settings.test_images), IMAGES)
            size = nearest_multiple(settings.size, stride)  # live protocols take any size, since they pad
            stem = f"features-{few.name}-{few.split}-{size}px"
            if stem not in drawn:
                found = shelf.features(few, View("whole", size), dense=True, precision=settings.precision)
                samples = [sample(found, index) for index in range(len(found))]
                heading = f"{who}: patches of {few.name}/{few.split} at {size} px"
                drawn[stem] = write(folder, stem, features_figure(samples, title=heading, points=self._points))
        return list(drawn.values())


def _short(name: str) -> str:
    """The end of a path, which tells arm and step; other addresses as they are."""
    return "/".join(Path(name).parts[-2:]) if "/" in name and ":" not in name else name


def draw_sizes(folder: Path, name: str, found: Sequence[Measurement]) -> list[Path]:
    """Every metric over the input size, where there is more than one size to show."""
    if not series(found):
        return []
    return [write(folder, "resolution", resolution_figure(found, title=f"{_short(name)}: metrics over the input size"))]


def _segmentation(seen: Seen, title: str) -> Figure:
    masks = [SegmentationSample(s.key(i), s.image(i), s.mask(i), guess) for s, i, guess in seen]
    return segmentation_figure(masks, seen[0][0].segments, title=title)


def _depth(seen: Seen, title: str) -> Figure:
    truths = [np.where(np.isfinite(guess), s.depth(i), 0) for s, i, guess in seen]  # NaN where nothing is judged
    depths = [
        DepthSample(s.key(i), s.image(i), truth, guess) for (s, i, guess), truth in zip(seen, truths, strict=True)
    ]
    return depth_figure(depths, title=title)


def _normals(seen: Seen, title: str) -> Figure:
    samples = [NormalSample(s.key(i), s.image(i), s.surfaces(i).normals, guess) for s, i, guess in seen]
    return normals_figure(samples, title=title)


def _boundaries(seen: Seen, title: str) -> Figure:
    samples = [BoundarySample(s.key(i), s.image(i), s.surfaces(i).parts, guess) for s, i, guess in seen]
    return boundaries_figure(samples, title=title)


DRAWN = {"depth": _depth, "normals": _normals, "boundaries": _boundaries}  # tasks that predict no pixel classes
