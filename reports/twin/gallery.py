"""What the features look like, for the twin: pictures of kept images by arm and step, as many as a small file can hold.

docs/report.md tells what they show; the pages of the PDF show the same at an early and a late step.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from common.feature_maps import patch_at
from common.palette import LOWEST
from common.spread import spread
from evals.results.pictured import ImageKey, set_name
from reports.compared import Differences
from reports.features.legends import class_colour, class_name, classes_in
from reports.features.maps import Maps, Picture, Shown, Truth
from reports.features.pages import spread_over_sets
from reports.features.reading import read
from reports.features.stages import Sides, sides
from reports.pairing import Checkpoint
from reports.run_folder import Run

MOST_BYTES = 4_000_000  # of all pictures
MOST_STEPS = 8  # of one arm
MOST_CLASSES = 12  # of a legend


class Gallery(NamedTuple):
    """Pictures of a run: of which arms, of which kinds, and what the page holds of each image.

    kinds: how each kind of picture is called, in the order in which a reader chooses.
    images: of each its `caption`, its picture in `kinds` of the truth, by arm the steps and kinds of its pictures (data
        URLs), where its points lie (shares of height and width) and what explains the colours of a kind.
    note: by which rule images, seed and arms were chosen.
    """

    arms: tuple[str, ...]
    kinds: dict[str, str]
    images: list[dict[str, Any]]
    note: str

    def plain(self) -> dict[str, Any]:
        """As the page holds it."""
        return {"images": self.images, "kinds": self.kinds}


def gallery(run: Run, compared: Differences, *, room: int = MOST_BYTES) -> Gallery | None:
    """As many images as there is room for, in bytes, one at least; None where the run has no pictures."""
    maps = Maps(run, read(run))
    beside = sides(maps, compared)
    if beside is None:
        return None
    ways = {arm: spread_to_the_end(maps.pictures.way(run, arm, beside.seed)) for arm in beside.arms}
    order = spread_over_sets(maps.images, len(maps.images))
    images = list(_that_fit((_image(maps, image, ways) for image in order), room))
    named = {"components": "components"} | {
        f"similar{n}": f"cosine with point {n + 1}" for n in range(len(maps.points))
    }
    named |= {"segmentation": "classes", "depth": "depth"}
    kinds = {kind: name for kind, name in named.items() if any(kind in image["kinds"] for image in images)}
    return Gallery(beside.arms, kinds, images, _note(maps, beside, len(images)))


def spread_to_the_end(way: Sequence[Checkpoint]) -> list[Checkpoint]:
    """At most `MOST_STEPS` of them at even distances, the last one always."""
    return spread(way[::-1], MOST_STEPS)[::-1]


def _that_fit(images: Iterator[dict[str, Any]], room: int) -> Iterator[dict[str, Any]]:
    held = 0
    for number, image in enumerate(images):
        held += len(json.dumps(image))
        if number and held > room:
            return
        yield image


def _image(maps: Maps, image: ImageKey, ways: dict[str, list[Checkpoint]]) -> dict[str, Any]:
    truth = maps.truth(image)
    by_arm = {arm: _steps(maps, image, way) for arm, way in ways.items()}
    own = {kind: picture for kind in ("segmentation", "depth") if (picture := getattr(truth, kind))}
    return {
        "caption": truth.image.caption,
        "image": _url(truth.image, lossy=True),
        "truth": {kind: _url(picture) for kind, picture in own.items()},
        "arms": by_arm,
        "kinds": sorted({kind for steps in by_arm.values() for _, kinds in steps for kind in kinds}),
        "points": _points(maps, image, ways),
        "legends": _legends(maps, image, truth, [at for way in ways.values() for at in way]),
    }


def _steps(maps: Maps, image: ImageKey, way: Sequence[Checkpoint]) -> list[tuple[int, dict[str, str]]]:
    """By step the pictures of an arm, those of its ancestors before it began."""
    seen = ((at.step, maps.of(at, image)) for at in way)
    return [(step, {kind: _url(picture) for kind, picture in _kinds(one)}) for step, one in seen if one is not None]


def _kinds(one: Shown) -> Iterator[tuple[str, Picture]]:
    yield "components", one.components
    for number, picture in enumerate(one.similar):
        yield f"similar{number}", picture
    for kind in ("segmentation", "depth"):
        if (picture := getattr(one, kind)) is not None:
            yield kind, picture


def _url(picture: Picture, *, lossy: bool = False) -> str:
    """A data URL, which an image of a page can have as its source."""
    into = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture.rgb)).save(into, "WEBP", lossless=not lossy, quality=90, method=4)
    return f"data:image/webp;base64,{base64.b64encode(into.getvalue()).decode()}"


def _points(maps: Maps, image: ImageKey, ways: dict[str, list[Checkpoint]]) -> dict[str, tuple[float, float]]:
    """By kind of picture, in the middle of the patch that the cosines are with."""
    seen = (maps.seen(at, image) for way in ways.values() for at in way)
    grid = next((one.features.shape[:2] for one in seen if one is not None), (1, 1))
    patches = (patch_at(point, grid) for point in maps.points)
    return {f"similar{n}": ((row + 0.5) / grid[0], (column + 0.5) / grid[1]) for n, (row, column) in enumerate(patches)}


def _legends(maps: Maps, image: ImageKey, truth: Truth, checkpoints: Sequence[Checkpoint]) -> dict[str, Any]:
    """By kind of picture a sentence, or the names and colours of the classes."""
    said: dict[str, Any] = {"components": "Like colours are like features, in all arms and steps of this image."}
    cosine = f"Light: cosine 1 with the patch at the cross; dark: {LOWEST:g} or less.".replace("-", "\u2212")
    said |= {f"similar{n}": cosine for n in range(len(maps.points))}
    if truth.depth is not None:
        near, far = maps.depth_span(image)
        said["depth"] = f"Light: {near:.1f} m; dark: {far:.1f} m; grey: unknown."
    if truth.segmentation is not None:
        name, classes = set_name(image), [number for _, number in classes_in(maps, [image], checkpoints)]
        said["segmentation"] = [
            [class_name(maps, name, number), class_colour(maps, name, number)] for number in classes[:MOST_CLASSES]
        ]
    return said


def _note(maps: Maps, beside: Sides, shown: int) -> str:
    said = [f"{shown} of the {len(maps.images)} images that are kept, evenly spread"]
    if len(maps.run.seeds) > 1:
        said.append(f"seed {beside.seed}, the first of those that most arms have pictures with")
    if beside.left_out:
        said.append(f"{len(beside.arms)} of {len(beside.arms) + beside.left_out} arms, as in report.pdf")
    return f"By rule: {'; '.join(said)}."
