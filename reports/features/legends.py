"""What explains the colours of a page of pictures, in a line at its foot."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex

from common.drawing import text_width
from common.palette import COSINE, LOWEST
from evals.results.pictured import ImageKey, set_name
from reports.features.maps import Maps
from reports.page import BOTTOM, LEFT, RIGHT, SOFT, Page
from reports.pairing import Checkpoint

LEGEND = 7.0  # points
LINE = 0.16  # inches from one line to the next


def classes_legend(
    page: Page, maps: Maps, images: Sequence[ImageKey], checkpoints: Sequence[Checkpoint], *, lines: int = 1
) -> None:
    """The colours of the classes that occur in these images, the most frequent first, in so many lines at the foot."""
    x, y = LEFT, BOTTOM - 0.02 - (lines - 1) * LINE
    for name, number in classes_in(maps, images, checkpoints):
        word = class_name(maps, name, number)
        wide = 0.2 + text_width(word, LEGEND) + 0.14
        if x + wide > RIGHT and lines > 1:
            x, y, lines = LEFT, y + LINE, lines - 1
        elif x + wide > RIGHT:
            page.write(x, y, "…", LEGEND, color=SOFT)
            return
        page.box(x, y - 0.1, 0.14, 0.12, fill=class_colour(maps, name, number))
        page.write(x + 0.18, y, word, LEGEND, color=SOFT)
        x += wide


def classes_in(maps: Maps, images: Sequence[ImageKey], checkpoints: Sequence[Checkpoint]) -> list[tuple[str, int]]:
    """The classes, by set and number, of the truth and the predictions of these images, the most frequent first."""
    counts: dict[tuple[str, int], int] = {}
    for image in images:
        found = [maps.pictures.images[image].segmentation]
        found += [one.segmentation for at in checkpoints if (one := maps.seen(at, image))]
        for mask in (mask for mask in found if mask is not None):
            for number, count in zip(*np.unique(mask, return_counts=True), strict=True):
                key = (set_name(image), int(number))
                counts[key] = counts.get(key, 0) + int(count)
    return sorted(counts, key=lambda key: -counts[key])


def class_colour(maps: Maps, name: str, number: int) -> str:
    """As `#rrggbb`."""
    return to_hex(maps.palette[name][number] / 255)


def class_name(maps: Maps, name: str, number: int) -> str:
    """Of a set's class by its number."""
    segments = maps.pictures.about.segments[name] if maps.pictures.about else []
    return segments[number] if number < len(segments) else "not labelled"


def cosine_bar(page: Page) -> None:
    """The scale of cosines."""
    axes = page.axes(LEFT + 0.9, BOTTOM - 0.12, 2.4, 0.1)
    bar = page.figure.colorbar(
        ScalarMappable(Normalize(LOWEST, 1), cmap=COSINE), cax=axes, orientation="horizontal", ticks=[]
    )
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    page.write(LEFT, BOTTOM - 0.03, "cosine", LEGEND, color=SOFT)
    page.write(LEFT + 0.85, BOTTOM - 0.03, f"≤ {LOWEST:g}".replace("-", "\u2212"), LEGEND, color=SOFT, ha="right")
    page.write(LEFT + 3.35, BOTTOM - 0.03, "1", LEGEND, color=SOFT)
