"""The report's pages of pictures: components, similarities, predictions beside the truth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

from common.drawing import shorten, text_width
from evals.results.pictured import ImageKey, set_name
from reports.compared import Differences
from reports.features import blocks
from reports.features.blocks import Block, Panel
from reports.features.differ import difference_pages
from reports.features.maps import COSINE, LOWEST, Maps, Picture
from reports.features.reading import read
from reports.features.stages import Sides, sides, spread
from reports.page import BOTTOM, LEFT, RIGHT, SOFT, Look, Page, new_page
from reports.run_folder import Run

MOST = 4  # blocks of a page
LEGEND = 7.0  # points
HEAD = 0.12  # inches between a page's words and its blocks


def feature_pages(run: Run, compared: Differences, arm_looks: Mapping[str, Look]) -> list[Page]:
    """None where the run has no pictures."""
    maps = Maps(run, read(run))
    beside = sides(maps, compared)
    if beside is None:
        return []
    looks = {arm: arm_looks[arm] for arm in beside.arms}
    pages = [
        components_page(maps, beside, looks),
        similarity_page(maps, beside, looks),
        *predictions_pages(maps, beside, looks),
        *difference_pages(maps, beside, compared, arm_looks),
    ]
    _tell_damage(pages[0], maps)
    return pages


def components_page(maps: Maps, beside: Sides, looks: Mapping[str, Look]) -> Page:
    """What the features look like, by their principal components."""
    page = new_page(
        "What the features look like",
        "Colours are the first three principal components of the patches, on one basis for each image: equal colours "
        "are equal features, in whatever arm and step. Read it so: even areas that follow the things in the image are "
        f"good dense features, speckle is not. {_which(maps, beside)}",
        size=8.5,
    )
    images = spread_over_sets(maps.images, MOST)
    found = [_components(maps, beside, image) for image in images]
    _fill(page, maps, beside, looks, found, images)
    return page


def similarity_page(maps: Maps, beside: Sides, looks: Mapping[str, Look]) -> Page:
    """The cosine of all patches with the one under a point."""
    page = new_page(
        "Similarity to a marked point",
        "Colours are the cosine of each patch with the one at the cross, in the middle of the image and of two of its "
        "quarters, on one scale. Read it so: what belongs to the same thing should be light and end at its edge; light "
        f"spots elsewhere, or light all over, are lost locality. {_which(maps, beside)}",
        size=8.5,
    )
    images = spread_over_sets(maps.images, MOST)
    wanted = [(image, number) for image in images for number in range(len(maps.points))][:MOST]
    found = [_similarity(maps, beside, image, number) for image, number in wanted]
    _fill(page, maps, beside, looks, found, [image for image, _ in wanted])
    _cosine_bar(page)
    return page


def predictions_pages(maps: Maps, beside: Sides, looks: Mapping[str, Look]) -> list[Page]:
    """Predicted classes and depth beside the truth; none where no head predicted any."""
    images = spread_over_sets([image for image in maps.images if _kinds(maps, image)], MOST)
    wanted = [(image, kind) for image in images for kind in _kinds(maps, image)][:MOST]
    if not wanted:
        return []
    page = new_page(
        "What the heads predict from them",
        "Predictions of the heads that were fitted for the evaluation, below the image its truth, in the same colours. "
        "Read it so: where an arm departs from the truth, and whether late more than early. "
        f"{_which(maps, beside)}",
        size=8.5,
    )
    found = [_predicted(maps, beside, image, kind) for image, kind in wanted]
    shown = _fill(page, maps, beside, looks, found, [image for image, _ in wanted])
    classes_legend(page, maps, [image for image, kind in wanted[:shown] if kind == "segmentation"], beside)
    return [page]


def spread_over_sets(images: Sequence[ImageKey], most: int) -> list[ImageKey]:
    """At most so many images, the sets in turn, those of each evenly spread over the pictured ones."""
    sets = {name: [image for image in images if set_name(image) == name] for name in map(set_name, images)}
    share = -(-most // max(len(sets), 1))
    chosen = [spread(own, share) for own in sets.values()]
    return [own[turn] for turn in range(share) for own in chosen if turn < len(own)][:most]


def classes_legend(page: Page, maps: Maps, images: Sequence[ImageKey], beside: Sides) -> None:
    """The colours of the classes that occur in these images, the most frequent first, in one line at the foot."""
    counts: dict[tuple[str, int], int] = {}
    for image in images:
        found = [maps.pictures.images[image].segmentation]
        found += [one.segmentation for s in beside.stages for at in s.by_arm.values() if (one := maps.seen(at, image))]
        for mask in (mask for mask in found if mask is not None):
            for number, count in zip(*np.unique(mask, return_counts=True), strict=True):
                key = (set_name(image), int(number))
                counts[key] = counts.get(key, 0) + int(count)
    x, y = LEFT, BOTTOM - 0.02
    for name, number in sorted(counts, key=lambda key: -counts[key]):
        word = _class_name(maps, name, number)
        wide = 0.2 + text_width(word, LEGEND) + 0.14
        if x + wide > RIGHT:
            page.write(x, y, "…", LEGEND, color=SOFT)
            return
        red, green, blue = maps.palette[name][number] / 255
        page.box(x, y - 0.1, 0.14, 0.12, fill=f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}")
        page.write(x + 0.18, y, word, LEGEND, color=SOFT)
        x += wide


def panel(picture: Picture | None, corner: str = "", *, marks: tuple[tuple[float, float, str], ...] = ()) -> Panel:
    """A picture as a panel; a frame where there is none."""
    return Panel(None) if picture is None else Panel(picture.rgb, corner, marks)


def _fill(
    page: Page, maps: Maps, beside: Sides, looks: Mapping[str, Look], found: list[Block], images: list[ImageKey]
) -> int:
    """Draw as many of the blocks as the page has room for; returns how many."""
    rows = max(2, len(beside.stages))
    aspect = blocks.aspect_of([maps.pictures.images[image].image for image in images])
    top = page.head + HEAD
    count = blocks.fitting(len(found), arms=len(looks), rows=rows, aspect=aspect, top=top)
    blocks.draw(page, found[:count], looks, aspect=aspect, top=top)
    return count


def _which(maps: Maps, beside: Sides) -> str:
    """By which rule images and arms were chosen."""
    total, run = len(maps.images), maps.run
    said = f"Images by rule: evenly spread over the {total} that are kept"
    if len(run.seeds) > 1:
        said += f"; seed {beside.seed}"
    if beside.left_out:
        said += (
            f"; of {len(beside.arms) + beside.left_out} arms the {len(beside.arms)} that differ most from "
            f"{shorten(run.baseline, 1.5, 8.5)} in the leading dense measure, and itself"
        )
    return said + "."


def _rows(maps: Maps, beside: Sides, pick: Mapping[tuple[str, str], Panel]) -> list[tuple[str, dict[str, Panel]]]:
    return [
        (f"{stage.name}: step {stage.step}", {arm: pick[stage.name, arm] for arm in beside.arms})
        for stage in beside.stages
    ]


def _panels(maps: Maps, beside: Sides, image: ImageKey, what: str, number: int = 0) -> dict[tuple[str, str], Panel]:
    """By stage and arm the picture of this kind, with its step where that is not the row's."""
    found: dict[tuple[str, str], Panel] = {}
    for stage in beside.stages:
        for arm, at in stage.by_arm.items():
            shown = maps.of(at, image)
            picture = None if shown is None else shown.similar[number] if what == "similar" else getattr(shown, what)
            found[stage.name, arm] = panel(picture, "" if at.step == stage.step else f"step {at.step}")
    return found


def _start(maps: Maps, beside: Sides, image: ImageKey, what: str, number: int = 0) -> list[tuple[str, Panel]]:
    """What all arms began with, where they did."""
    if beside.start is None or (shown := maps.of(beside.start, image)) is None:
        return []
    return [
        (f"start: step {beside.start.step}", panel(shown.similar[number] if what == "similar" else shown.components))
    ]


def _components(maps: Maps, beside: Sides, image: ImageKey) -> Block:
    truth = maps.truth(image)
    shared = [("image", panel(truth.image)), *_start(maps, beside, image, "components")]
    return Block(truth.image.caption, shared, _rows(maps, beside, _panels(maps, beside, image, "components")))


def _similarity(maps: Maps, beside: Sides, image: ImageKey, number: int) -> Block:
    truth, (down, across) = maps.truth(image), maps.points[number]
    mark = ((down, across, "+"),)
    shared = [("image", panel(truth.image, marks=mark)), *_start(maps, beside, image, "similar", number)]
    caption = f"point {number + 1} in {truth.image.caption}"
    return Block(caption, shared, _rows(maps, beside, _panels(maps, beside, image, "similar", number)))


def _predicted(maps: Maps, beside: Sides, image: ImageKey, kind: str) -> Block:
    truth = maps.truth(image)
    caption = f"classes, {truth.image.caption}"
    if kind == "depth":
        near, far = maps.depth_span(image)
        caption = f"depth, light {near:.1f} m to dark {far:.1f} m, grey unknown, {truth.image.caption}"
    shared = [("image", panel(truth.image)), ("truth", panel(getattr(truth, kind)))]
    return Block(caption, shared, _rows(maps, beside, _panels(maps, beside, image, kind)))


def _kinds(maps: Maps, image: ImageKey) -> list[str]:
    """What heads predict of an image's pixels."""
    known = maps.pictures.images[image]
    return [kind for kind in ("segmentation", "depth") if getattr(known, kind) is not None]


def _class_name(maps: Maps, name: str, number: int) -> str:
    segments = maps.pictures.about.segments[name] if maps.pictures.about else []
    return segments[number] if number < len(segments) else "not labelled"


def _cosine_bar(page: Page) -> None:
    axes = page.axes(LEFT + 0.6, BOTTOM - 0.12, 2.4, 0.1)
    bar = page.figure.colorbar(
        ScalarMappable(Normalize(LOWEST, 1), cmap=COSINE), cax=axes, orientation="horizontal", ticks=[]
    )
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    page.write(LEFT, BOTTOM - 0.03, "cosine", LEGEND, color=SOFT)
    page.write(LEFT + 0.55, BOTTOM - 0.03, f"{LOWEST:g}".replace("-", "\u2212"), LEGEND, color=SOFT, ha="right")
    page.write(LEFT + 3.05, BOTTOM - 0.03, "1", LEGEND, color=SOFT)


def _tell_damage(page: Page, maps: Maps) -> None:
    """What could not be read while these pages were drawn, in a line at the foot of the first."""
    if maps.damaged:
        first, *others = maps.damaged
        said = f"{first}{f', and {len(others)} more' if others else ''}"
        page.write(LEFT, BOTTOM, shorten(said, RIGHT - LEFT, LEGEND), LEGEND, color=SOFT)
