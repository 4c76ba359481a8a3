"""What an evaluated step's features look like, as one picture: images, similarities and predictions in a grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from common.errors import BadInput
from common.feature_maps import POINTS, similarity
from common.palette import colours, cosine_colours, depth_colours, depth_span, rgb_bytes
from common.spread import spread
from evals.results import pictured
from evals.results.pictured import About, ImageKey, Known, Seen, set_name

IMAGES, HEIGHT, GAP = 4, 128, 4  # rows of the grid, pixels of each and between them
SIMILAR = POINTS[:2]


def drawn(path: Path, images: Path) -> Image.Image | None:
    """A row for each of a few images: the image, its similarity with two marked points, predicted classes and depth.

    All on fixed scales, which no other step changes. None where something is damaged, which the report tells.

    Args:
        path: the features of the step.
        images: the folder of the images.
    """
    try:
        about = pictured.load_record(path)
        seen = pictured.load_seen(path, spread(about.images, IMAGES))[1]
        known = pictured.load_known(images / f"images-{len(about.images)}.npz")[1]
    except BadInput:
        return None
    rows = [[_sized(one, known[image]) for one in _panels(image, about, known[image], seen[image])] for image in seen]
    width, height = max(map(_across, rows)), len(rows) * (HEIGHT + GAP) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    for number, row in enumerate(rows):
        for place, panel in enumerate(row):
            sheet.paste(panel, (_across(row[:place]) + (GAP if place else 0), number * (HEIGHT + GAP)))
    return sheet


def _panels(image: ImageKey, about: About, known: Known, seen: Seen) -> Iterator[np.ndarray]:
    """uint8 [h w 3] each, of whatever height and width."""
    yield known.image
    yield from (cosine_colours(similarity(seen.features, point)) for point in SIMILAR)
    names = about.segments.get(set_name(image))
    if seen.segmentation is not None and names is not None:
        yield rgb_bytes(colours(len(names)))[seen.segmentation]
    if seen.depth is not None and known.depth is not None:
        yield depth_colours(seen.depth, depth_span(known.depth))


def _sized(panel: np.ndarray, like: Known) -> Image.Image:
    """At the height of its row, in the shape of the image; patches and classes have no values in between."""
    height, width = like.image.shape[:2]
    how = Image.Resampling.BICUBIC if panel is like.image else Image.Resampling.NEAREST
    return Image.fromarray(panel).resize((round(HEIGHT * width / height), HEIGHT), how)


def _across(row: Sequence[Image.Image]) -> int:
    """The width of panels side by side."""
    return sum(panel.width for panel in row) + GAP * max(len(row) - 1, 0)
