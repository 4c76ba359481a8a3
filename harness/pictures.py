"""Pictures of features: what is kept for them at each evaluation, where it lies, and what it costs.

They are an extra: whatever keeps them from being made is told, and the evaluation counts all the same.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.bounded import size_words
from common.command import duration
from common.errors import BadInput, first_line
from evals.backbones.backbone import Backbone
from evals.features.shelf import Shelf
from evals.features.view import nearest_multiple
from evals.one_task import TaskSpec
from evals.pictures.recorder import Images, Recorder
from evals.results import pictured
from evals.results.pictured import About, ImageKey, Known, Seen
from harness.job import Job
from harness.model import sizes_of

log = logging.getLogger("gramlab")
SECONDS_PER_BYTE = 6e-8  # to cut out, compress and write, on a CPU of 2020


class Taken(NamedTuple):
    """What is kept of a checkpoint, and the images that it is about."""

    about: About
    seen: dict[ImageKey, Seen]
    known: dict[ImageKey, Known]


class Pictures:
    """Keeps what checkpoints of one experiment make of its images; `evaluations` is the identity of its evaluations."""

    def __init__(self, tasks: Mapping[str, TaskSpec], count: int, *, evaluations: str) -> None:
        self.images = Images(tasks, count)
        self.evaluations = evaluations
        self._whole: set[Path] = set()

    def taken(self, recorder: Recorder, backbone: Backbone, shelf: Shelf) -> Taken | None:
        """What the backbone and its heads make of the images; None where that cannot be had, which the log tells."""
        if not self.images.sets:
            return None
        with _harmless(backbone.name):
            seen = recorder.seen(backbone, shelf)
            about = self.images.about(backbone=backbone.fingerprint[:16])
            return Taken(about, seen, self.images.known(backbone.stride))
        return None

    def keep(self, folder: Path, taken: Taken | None) -> None:
        """Write it into the folder of the step, and once the images into that of the segment."""
        if taken is None:
            return
        with _harmless(folder):
            place = pictured.images_folder(folder.parent, self.evaluations) / f"images-{len(taken.known)}.npz"
            if place not in self._whole and not _is_whole(place):
                pictured.save(place, self.images.about(), taken.known)
            self._whole.add(place)
            pictured.save(pictured.features_path(folder, self.evaluations), taken.about, taken.seen)

    def planned(self, jobs: Sequence[Job]) -> str:
        """What they will cost, at most, in a line for the plan; "" where none are kept."""
        if not self.images.sets:
            return ""
        try:
            costs = [self._bytes(job) for job in {job.content: job for job in jobs}.values()]
        except BadInput as error:  # an image that cannot be read, which the evaluation will tell
            return f"pictures: unknown ({first_line(error)})"
        largest = max(step for step, _, _ in costs)
        total = sum(step * evaluations + images for step, images, evaluations in costs)
        sets = ", ".join(f"{len(one.images)} of {one.name}" for one in self.images.sets)
        seconds = sum(step * evaluations for step, _, evaluations in costs) * SECONDS_PER_BYTE
        took = f"about {duration(seconds)}" if seconds >= 1 else "less than a second"
        return (
            f"pictures of features: {sets} at each evaluation, at most {size_words(largest)} each and "
            f"{size_words(total)} in all, {took} (evals.pictures=0 keeps none)"
        )

    def _bytes(self, job: Job) -> tuple[int, int, int]:
        """Of each evaluation of a job, of its images, and how many evaluations it has."""
        sizes, step, images = sizes_of(job.settings.model), 0, 0
        for image, known in self.images.known(sizes.patch).items():
            size = next(one.protocol.size for one in self.images.sets if image in one.images)
            height, width = known.image.shape[:2]
            grid = [nearest_multiple(side * size / min(height, width), sizes.patch) for side in (height, width)]
            pixels = sum(array.nbytes for array in (known.segmentation, known.depth) if array is not None)
            step += int(np.prod(grid)) // sizes.patch**2 * sizes.width * 2 + pixels
            images += known.image.nbytes + pixels
        return step, images, len(job.evaluations)


@contextmanager
def _harmless(what: object) -> Iterator[None]:
    """Whatever goes wrong inside is told and ends there."""
    try:
        yield
    except Exception as error:  # of reading, computing or writing what is an extra: a full disk, memory, a bad image
        log.warning("%s: no pictures of its features are kept (%s)", what, first_line(error))


def _is_whole(path: Path) -> bool:
    try:
        return path.is_file() and bool(pictured.load_known(path))
    except BadInput as error:
        log.warning("%s; it is written anew", first_line(error))
        return False
