"""Pictures of features as arrays of colours: of a checkpoint and an image, what can be drawn beside any other.

`Maps.of` is the one way to them, for pages and for whoever shows them elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from common.errors import BadInput
from common.feature_maps import POINTS, Basis, Point, basis, similarity
from common.palette import colours, cosine_colours, depth_colours, depth_span, rgb_bytes
from evals.results.pictured import ImageKey, Seen, set_name
from reports.features.reading import Pictures
from reports.pairing import Checkpoint
from reports.run_folder import Run

MOST_ROWS = 100_000  # patches that a basis is found from, evenly spread over all of them


class Picture(NamedTuple):
    """Colours, uint8 [h w 3], and what they show, in a few words. Cells are to be drawn flat, not smoothed."""

    rgb: np.ndarray
    caption: str


class Shown(NamedTuple):
    """What one checkpoint makes of one image; `similar` has a picture for each of `POINTS`."""

    components: Picture
    similar: tuple[Picture, ...]
    segmentation: Picture | None
    depth: Picture | None


class Truth(NamedTuple):
    """The image, and what is known of it where heads were judged."""

    image: Picture
    segmentation: Picture | None
    depth: Picture | None


@dataclass
class Maps:
    """All pictures of a run, made as they are asked for; what could not be read meanwhile is in `damaged`.

    Colours of components are those of one basis for each image and seed: the principal components of the patches of
    all checkpoints that the run has pictures of with that seed, of each the mean patch taken off. So they can be
    compared over arms and steps, not over images or seeds.
    """

    run: Run
    pictures: Pictures
    points: Sequence[Point] = POINTS
    damaged: dict[str, None] = field(default_factory=dict)
    _seen: dict[tuple[ImageKey, int], dict[Checkpoint, Seen]] = field(default_factory=dict)
    _bases: dict[tuple[ImageKey, int, int], Basis] = field(default_factory=dict)

    @property
    def images(self) -> tuple[ImageKey, ...]:
        return tuple(self.pictures.images)

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        return tuple(self.pictures.files)

    def truth(self, image: ImageKey) -> Truth:
        """The image itself with what is known of it."""
        known, name = self.pictures.images[image], f"{image.key} of {set_name(image)}"
        return Truth(
            Picture(known.image, name),
            self._classes(image, known.segmentation, "true classes"),
            self._metres(image, known.depth, "true depth"),
        )

    def of(self, checkpoint: Checkpoint, image: ImageKey) -> Shown | None:
        """What a checkpoint makes of an image; None where it has no pictures of it."""
        seen = self.seen(checkpoint, image)
        if seen is None:
            return None
        whose = f"{checkpoint.lane}, seed {checkpoint.seed}, step {checkpoint.step}"
        rgb = rgb_bytes(self._basis(image, checkpoint.seed, seen.features.shape[-1]).colours(_centred(seen.features)))
        similar = (similarity(seen.features, point) for point in self.points)
        return Shown(
            Picture(rgb, f"components: {whose}"),
            tuple(
                Picture(cosine_colours(one), f"cosine with point {number}: {whose}")
                for number, one in enumerate(similar, 1)
            ),
            self._classes(image, seen.segmentation, f"predicted classes: {whose}"),
            self._metres(image, seen.depth, f"predicted depth: {whose}"),
        )

    def seen(self, checkpoint: Checkpoint, image: ImageKey) -> Seen | None:
        """The arrays behind `of`."""
        return self._of_seed(image, checkpoint.seed).get(checkpoint)

    def depth_span(self, image: ImageKey) -> tuple[float, float]:
        """Metres at the two ends of the colours of an image's depth, by its truth."""
        return depth_span(self.pictures.images[image].depth)

    @cached_property
    def palette(self) -> Mapping[str, np.ndarray]:
        """uint8 [256 3] by set: the colour of each pixel class, black where there is none."""
        segments = self.pictures.about.segments if self.pictures.about else {}
        return {name: rgb_bytes(colours(len(names))) for name, names in segments.items()}

    def prepare(self, images: Collection[ImageKey], seed: int) -> None:
        """Read these images of all checkpoints with a seed, each file once: what is asked of them later is at hand."""
        new = [image for image in images if (image, seed) not in self._seen]
        self._seen |= {(image, seed): {} for image in new}
        for at in (at for at in self.pictures.files if new and at.seed == seed):
            try:
                found = self.pictures.seen(at, new)
            except BadInput as error:
                self.damaged[str(error).replace(f"{self.run.folder}/", "")] = None
                continue
            for image, one in found.items():
                self._seen[image, seed][at] = one

    def _of_seed(self, image: ImageKey, seed: int) -> dict[Checkpoint, Seen]:
        self.prepare([image], seed)
        return self._seen[image, seed]

    def _basis(self, image: ImageKey, seed: int, width: int) -> Basis:
        if (image, seed, width) not in self._bases:
            alike = [one.features for one in self._of_seed(image, seed).values() if one.features.shape[-1] == width]
            rows = np.concatenate([_centred(one).reshape(-1, width) for one in alike])
            step = -(-len(rows) // MOST_ROWS)
            self._bases[image, seed, width] = basis([rows[::step][None]])
        return self._bases[image, seed, width]

    def _classes(self, image: ImageKey, classes: np.ndarray | None, caption: str) -> Picture | None:
        table = self.palette.get(set_name(image))
        return None if classes is None or table is None else Picture(table[classes], caption)

    def _metres(self, image: ImageKey, depth: np.ndarray | None, caption: str) -> Picture | None:
        return None if depth is None else Picture(depth_colours(depth, self.depth_span(image)), caption)


def _centred(features: np.ndarray) -> np.ndarray:
    own = features.astype(np.float64)
    return own - own.mean((0, 1))
