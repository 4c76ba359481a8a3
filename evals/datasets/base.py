"""What every labelled image set offers, whatever its kind."""

from __future__ import annotations

from typing import Protocol

import numpy as np

IGNORE = 255


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

    def fingerprint(self) -> str:
        """Hexadecimal digest that changes when the content does."""
        ...
