"""What the pages of a curation show, as plain data: who makes the pages needs neither images on disk nor torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Picture:
    """A small uint8 image [h w 3], and the words below it."""

    image: np.ndarray
    words: str = ""
    marked: bool = False  # drawn with a frame: the one that the others are compared with


@dataclass(frozen=True)
class Strip:
    """Images side by side, with a line above them."""

    title: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Sheet:
    """Strips under one title, as many pages of them as they take."""

    title: str
    subtitle: str
    strips: Sequence[Strip]


@dataclass(frozen=True)
class Sizes:
    """Images in each cluster of a level: of the pool, and of what is kept, in the same order."""

    level: int
    before: np.ndarray
    after: np.ndarray


@dataclass(frozen=True)
class Story:
    """All pages of one curation.

    facts: what was asked, by title. columns, rows: the table of what became of the images, the last row being all.
    """

    name: str
    question: str
    facts: Sequence[tuple[str, str]]
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    sizes: Sequence[Sizes]
    sheets: Sequence[Sheet]
