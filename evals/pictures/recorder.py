"""Takes down, while checkpoints are evaluated, what they make of a few test images, for pictures that are drawn later.

Nothing is computed for it that the tasks have not computed, but for the features of these few images where no task has
seen them whole. Imports no matplotlib.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from common.spread import spread
from evals.backbones.backbone import Backbone
from evals.datasets.labelled_set import LabelledSet
from evals.datasets.subset import Renumbered, spread_subset
from evals.features.shelf import Shelf
from evals.features.view import View, nearest_multiple, prepare
from evals.one_task import TaskSpec
from evals.protocols.protocol import Protocol
from evals.results.pictured import FORMAT, About, ImageKey, Known, Seen

LARGEST = 256  # short side in pixels of what is kept of an image and at its pixels
PREDICTED = {"segmentation": np.uint8, "depth": np.float16}  # methods whose heads show what they predict at no cost


@dataclass(frozen=True)
class Pictured:
    """Some images of a test set with their numbers in it, its first task, and by method those that predict pixels."""

    dataset: LabelledSet
    images: dict[ImageKey, int]
    protocol: Protocol
    heads: dict[str, tuple[str, Protocol]]

    @property
    def name(self) -> str:
        return f"{self.dataset.name}/{self.dataset.split}"


def chosen(tasks: Mapping[str, TaskSpec], count: int) -> list[Pictured]:
    """So many images of all test sets together, evenly spread in each set's order.

    Sets whose pixels are predicted come first. Every set gives as many images, the first ones another where that does
    not come out even.
    """
    sets: dict[tuple[str, str], list[tuple[str, TaskSpec]]] = {}
    for name, spec in tasks.items():
        sets.setdefault((spec.test_set.name, spec.test_set.split), []).append((name, spec))
    ordered = sorted(sets.values(), key=lambda own: not any(spec.protocol.method in PREDICTED for _, spec in own))
    share, more = divmod(count, max(len(ordered), 1))
    found = (_pictured(own, share + (place < more)) for place, own in enumerate(ordered))
    return [one for one in found if one.images]


def _pictured(own: Sequence[tuple[str, TaskSpec]], count: int) -> Pictured:
    predicted = [(name, spec) for name, spec in own if spec.protocol.method in PREDICTED]
    first = (predicted or own)[0][1]
    whole = first.test_set.original if isinstance(first.test_set, Renumbered) else first.test_set
    dataset = spread_subset(whole, first.protocol.test_images)
    heads = {spec.protocol.method: (name, spec.protocol) for name, spec in reversed(predicted)}
    places = spread(range(len(dataset)), count) if count else []
    images = {ImageKey(dataset.name, dataset.split, dataset.key(place)): place for place in places}
    return Pictured(dataset, images, first.protocol, heads)


class Images:
    """The images that are kept of an experiment's test sets; each is read once."""

    def __init__(self, tasks: Mapping[str, TaskSpec], count: int) -> None:
        self.sets = chosen(tasks, count)
        self._known: dict[int, dict[ImageKey, Known]] = {}

    def __len__(self) -> int:
        return sum(len(one.images) for one in self.sets)

    @cached_property
    def watched(self) -> dict[str, str]:
        """The tasks whose predictions are wanted, with their methods."""
        return {name: method for one in self.sets for method, (name, _) in one.heads.items()}

    def known(self, stride: int) -> dict[ImageKey, Known]:
        """The images as a backbone of this stride sees them, and what is known of the pixels that heads predict."""
        if stride not in self._known:
            found = {image: _known(one, at, stride) for one in self.sets for image, at in one.images.items()}
            self._known[stride] = found
        return self._known[stride]

    def about(self, *, backbone: str = "") -> About:
        """The record of what is kept of them."""
        heads = {
            method: {one.name: _words(one.heads[method][1]) for one in self.sets if method in one.heads}
            for method in PREDICTED
        }
        return About(
            format=FORMAT,
            size=self.sets[0].protocol.size,
            images=[image for one in self.sets for image in one.images],
            backbone=backbone,
            segments={one.name: [*one.dataset.segments] for one in self.sets if "segmentation" in one.heads},
            **heads,
        )


class Recorder:
    """Remembers what one checkpoint's heads predict of the images; `watch` is for `evals.suite.evaluate`."""

    def __init__(self, images: Images) -> None:
        self._images = images
        self._wanted = {image for one in images.sets for image in one.images}
        self._guesses: dict[tuple[ImageKey, str], np.ndarray] = {}

    def watch(self, task: str, dataset: LabelledSet, index: int, guess: np.ndarray) -> None:
        """A head's prediction for one test image, as its task describes it."""
        if self.wants(dataset, index):
            self._guesses[_key(dataset, index), self._images.watched[task]] = guess

    def wants(self, dataset: LabelledSet, index: int) -> bool:
        """Whether this image of a test set is one of those that are kept."""
        return _key(dataset, index) in self._wanted

    def seen(self, backbone: Backbone, shelf: Shelf) -> dict[ImageKey, Seen]:
        """What the backbone makes of the images, its features from the shelf. Raises BadInput for a size that it
        refuses, and for images that cannot be read."""
        known, found = self._images.known(backbone.stride), dict[ImageKey, Seen]()
        for one in self._images.sets:
            view = View("whole", nearest_multiple(one.protocol.size, backbone.stride))
            precision = one.protocol.precision
            features = shelf.features(one.dataset, view, dense=True, cap=len(one.images), precision=precision)
            for number, image in enumerate(one.images):
                patches = features.patches(number).reshape(*features.grid(number), -1).numpy()
                found[image] = Seen(_half(patches), **self._predicted(image, known[image].image.shape[:2]))
        return found

    def _predicted(self, image: ImageKey, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
        guesses = {method: self._guesses.get((image, method)) for method in PREDICTED}
        return {
            method: _sampled(guess, shape).astype(PREDICTED[method])
            for method, guess in guesses.items()
            if guess is not None
        }


def small(protocol: Protocol, stride: int) -> View:
    """How an image is kept: as a backbone of this stride sees it, unless that is large."""
    return View("whole", nearest_multiple(min(protocol.size, LARGEST), stride))


def _key(dataset: LabelledSet, index: int) -> ImageKey:
    return ImageKey(dataset.name, dataset.split, dataset.key(index))


def _words(protocol: Protocol) -> str:
    return f"{protocol.id} #{protocol.hash()}"


def _known(one: Pictured, place: int, stride: int) -> Known:
    image = prepare(one.dataset.image(place), small(one.protocol, stride), stride=stride)
    truth = {"segmentation": one.dataset.mask, "depth": one.dataset.depth}
    pixels = {method: truth[method](place).astype(PREDICTED[method]) for method in PREDICTED if method in one.heads}
    return Known(image, **{method: _sampled(given, image.shape[:2]) for method, given in pixels.items()})


def _half(features: np.ndarray) -> np.ndarray:
    """In half precision, at most as large as it can be."""
    most = float(np.finfo(np.float16).max)
    return np.clip(features, -most, most).astype(np.float16)


def _sampled(pixels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An [H W] picture at another size: of each pixel the value at its middle."""
    rows, columns = ((np.arange(new) * 2 + 1) * old // (2 * new) for old, new in zip(pixels.shape, shape, strict=True))
    return pixels[rows[:, None], columns]
