"""The contract of every image set: images, and the classes, masks and depth that are known about them."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

import numpy as np

from common.errors import BadInput
from evals.datasets.inventory import Inventory

IGNORE = 255
# What an evaluation asks of a set
Needs = Literal["image classes", "pixel classes", "depth", "surface normals", "parts", "images"]


class BeyondClasses(BadInput):
    """A mask holds a value above the number of classes: the list of classes does not fit."""

    def __init__(self, message: str, value: int = 0) -> None:
        super().__init__(message)
        self.value = value


class Surfaces(NamedTuple):
    """What is seen at each pixel of an image: which way it faces, and what it is a part of.

    `normals` float32 [H, W, 3] are outward and of unit length, in the camera's frame: x to the right, y up, z ahead,
    along the axis on which depth is measured, so that what faces the camera is (0, 0, -1); 0 where unknown. `parts`
    uint8 [H, W] are numbers of the image's own: the same one where two pixels belong to one solid, wall or other part.
    """

    normals: np.ndarray
    parts: np.ndarray


class LabelledSet(Protocol):
    """Images with what is known about them. Asking for what a set does not have raises `BadInput`.

    `classes` are the names of the image classes and `segments` those of the pixel classes, () where there are none.
    """

    @property
    def name(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def segments(self) -> tuple[str, ...]: ...
    @property
    def has_depth(self) -> bool: ...
    @property
    def has_surfaces(self) -> bool: ...

    def __len__(self) -> int: ...

    def key(self, index: int) -> str:
        """A stable name, unique within the set."""
        ...

    def image(self, index: int) -> np.ndarray:
        """uint8 [H, W, 3], RGB, upright."""
        ...

    def label(self, index: int) -> int:
        """The image class, 0 .. len(classes) - 1."""
        ...

    def mask(self, index: int) -> np.ndarray:
        """uint8 [H, W], pixel classes 0 .. len(segments) - 1, `IGNORE` where unlabelled."""
        ...

    def depth(self, index: int) -> np.ndarray:
        """float32 [H, W], metres along the camera's axis, 0 where unknown."""
        ...

    def surfaces(self, index: int) -> Surfaces:
        """Which way each pixel faces, and which part it shows."""
        ...

    def found(self) -> Inventory:
        """What it holds, and what was passed over on the way."""
        ...

    def fingerprint(self) -> str:
        """Hexadecimal digest that changes when the content does."""
        ...

    def stamp(self) -> str:
        """Hexadecimal digest that changes whenever a file may have changed, so that what is cached by it is not stale.

        It covers all of the fingerprint, and for each file also its times and its place on the disk: a copy of the
        set has the same fingerprint and another stamp. Sets without files give their fingerprint.
        """
        ...


class ImagesAlone:
    """The part of a set that has neither masks nor depth: it refuses to be asked for them."""

    name: str
    segments, has_depth, has_surfaces = (), False, False

    def mask(self, index: int) -> np.ndarray:
        raise BadInput(f"got set '{self.name}' without masks: want kind ade20k, nyu or scenes; correct kind")

    def depth(self, index: int) -> np.ndarray:
        raise BadInput(f"got set '{self.name}' without depth: want kind nyu or scenes; correct kind")

    def surfaces(self, index: int) -> Surfaces:
        raise no_surfaces(self.name)


def has(dataset: LabelledSet, needs: Needs) -> bool:
    """Whether a set has what an evaluation asks of it."""
    match needs:
        case "image classes":
            return bool(dataset.classes)
        case "pixel classes":
            return bool(dataset.segments)
        case "depth":
            return dataset.has_depth
        case "surface normals" | "parts":
            return dataset.has_surfaces
        case "images":
            return True


def alone(needs: Needs) -> str:
    """Of what few sets have, which these are: the end of "want a set with them", for who named another."""
    return ", which rendered rooms alone have (kind: scenes)" if needs in ("surface normals", "parts") else ""


def no_surfaces(name: str) -> BadInput:
    """The error for a set that nobody rendered."""
    return BadInput(f"got set '{name}' without surface normals and parts: want kind scenes; correct kind")
