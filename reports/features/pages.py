"""The report's pages of pictures: components, similarities, predictions beside the truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from common.drawing import shorten, wrap
from common.feature_maps import patch_at
from common.spread import spread
from evals.results.pictured import ImageKey, set_name
from reports.compared import Differences
from reports.estimates import primary
from reports.features import blocks
from reports.features.blocks import Block, Panel, panel
from reports.features.differ import difference_pages
from reports.features.legends import LEGEND, classes_legend, cosine_bar
from reports.features.maps import Maps
from reports.features.reading import read
from reports.features.stages import Sides, sides
from reports.page import BOTTOM, LEFT, RIGHT, SOFT, Look, Page, new_page
from reports.run_folder import Run

T = TypeVar("T")
MOST = 4  # blocks of a page
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
    page = _opened(
        maps,
        beside,
        "What the features look like",
        "Colours are the first three principal components of the patches, on one basis for each image, so that like "
        "colours are like features in all arms and steps. Read it so: even areas that follow the things in the image "
        "are good dense features, speckle is not.",
    )
    _filled(
        page,
        maps,
        beside,
        looks,
        choose=lambda most: [(i, 0) for i in spread_over_sets(maps.images, most)],
        block=lambda image, _: _components(maps, beside, image),
    )
    return page


def similarity_page(maps: Maps, beside: Sides, looks: Mapping[str, Look]) -> Page:
    """The cosine of all patches with the one under a point."""
    page = _opened(
        maps,
        beside,
        "Similarity to a marked point",
        "Colours are the cosine of each patch with the one at the cross (by rule in the middle, or of two quarters). "
        "Read it so: what belongs to one thing should be light and end at its edge; light spots elsewhere, or all "
        "over, are lost locality.",
    )
    points = range(len(maps.points))
    _filled(
        page,
        maps,
        beside,
        looks,
        choose=lambda most: [(i, n) for i in spread_over_sets(maps.images, -(-most // len(points))) for n in points],
        block=partial(_similarity, maps, beside),
    )
    cosine_bar(page)
    return page


def predictions_pages(maps: Maps, beside: Sides, looks: Mapping[str, Look]) -> list[Page]:
    """Predicted classes and depth beside the truth; none where no head predicted any."""
    judged = [image for image in maps.images if _kinds(maps, image)]
    if not judged:
        return []
    page = _opened(
        maps,
        beside,
        "What the heads predict from them",
        "Predictions of the heads that were fitted for the evaluation, below the image its truth, in the same colours. "
        "Read it so: where an arm departs from the truth, and whether late more than early.",
    )
    sets = len({set_name(image) for image in judged})
    shown = _filled(
        page,
        maps,
        beside,
        looks,
        choose=lambda most: [
            (i, k) for i in spread_over_sets(judged, max(-(-most // 2), sets)) for k in _kinds(maps, i)
        ],
        block=partial(_predicted, maps, beside),
    )
    classes_legend(page, maps, [image for image, kind in shown if kind == "segmentation"], beside.checkpoints, lines=2)
    return [page]


def spread_over_sets(images: Sequence[ImageKey], most: int) -> list[ImageKey]:
    """At most so many images, the sets in turn, those of each evenly spread over the pictured ones."""
    sets = {name: [image for image in images if set_name(image) == name] for name in map(set_name, images)}
    share = -(-most // max(len(sets), 1))
    chosen = [spread(own, share) for own in sets.values()]
    return [own[turn] for turn in range(share) for own in chosen if turn < len(own)][:most]


def _opened(maps: Maps, beside: Sides, title: str, words: str) -> Page:
    """A page with its words and, below them, by which rule images, seed and arms were chosen."""
    page = new_page(title, words, size=8.5)
    _tell_rule(page, maps, beside)
    return page


def _fitting(
    page: Page, maps: Maps, beside: Sides, choose: Callable[[int], list[tuple[ImageKey, T]]]
) -> list[tuple[ImageKey, T]]:
    """What the page has room for: as much as leaves panels a good size, two blocks at least.

    choose: images with what is drawn of them, for a page of so many blocks or more.
    """
    lies = {"arms": len(beside.arms), "rows": max(2, len(beside.stages)), "top": page.head + HEAD}
    for count in range(MOST, 2, -1):
        wanted = choose(count)[:count]
        aspect = _aspect(maps, [image for image, _ in wanted])
        if blocks.grid(len(wanted), **lies, aspect=aspect).height >= blocks.SMALLEST * min(1.0, aspect):
            return wanted
    return choose(2)[:2]


def _filled(
    page: Page, maps: Maps, beside: Sides, looks: Mapping[str, Look],
    *, choose: Callable[[int], list[tuple[ImageKey, T]]], block: Callable[[ImageKey, T], Block],
) -> list[tuple[ImageKey, T]]:  # fmt: skip
    """Draw a block for each of what the page has room for, and return these; `choose` as in `_fitting`."""
    shown = _fitting(page, maps, beside, choose)
    aspect = _aspect(maps, [image for image, _ in shown])
    blocks.draw(page, [block(image, what) for image, what in shown], looks, aspect=aspect, top=page.head + HEAD)
    return shown


def _aspect(maps: Maps, images: Sequence[ImageKey]) -> float:
    return blocks.aspect_of([maps.pictures.images[image].image for image in images])


def _tell_rule(page: Page, maps: Maps, beside: Sides) -> None:
    """By which rule images, seed and arms were chosen, in a line below the page's words."""
    turns = ", of each set in turn" if len({set_name(image) for image in maps.images}) > 1 else ""
    said = [f"By rule: images evenly spread over the {len(maps.images)} that are kept{turns}"]
    if len(maps.run.seeds) > 1:
        said.append(f"seed {beside.seed}, the first of those that most arms have pictures with")
    if beside.left_out:
        kept = len(beside.arms)
        far = f"the {kept - 1} furthest from it in {_leading(maps)}"
        said.append(f"of {kept + beside.left_out} arms the baseline and {far}")
    lines = wrap("; ".join(said) + ".", RIGHT - LEFT, 7.5, lines=2)
    page.head = page.flow(LEFT, page.head + 0.03, lines, 7.5, color=SOFT)


def _leading(maps: Maps) -> str:
    column = primary(maps.run, "dense")
    return "their order" if column is None else f"{column.title} on {column.dataset}"


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
    truth, mark = maps.truth(image), _mark(maps, beside, image, number)
    shared = [("image", panel(truth.image, marks=mark)), *_start(maps, beside, image, "similar", number)]
    caption = f"point {number + 1} in {truth.image.caption}"
    return Block(caption, shared, _rows(maps, beside, _panels(maps, beside, image, "similar", number)))


def _mark(maps: Maps, beside: Sides, image: ImageKey, number: int) -> tuple[tuple[float, float, str], ...]:
    """A cross in the middle of the patch under a point, as shares of height and width."""
    seen = [maps.seen(at, image) for stage in beside.stages for at in stage.by_arm.values()]
    grid = next((one.features.shape[:2] for one in seen if one is not None), (1, 1))
    row, column = patch_at(maps.points[number], grid)
    return (((row + 0.5) / grid[0], (column + 0.5) / grid[1], "+"),)


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


def _tell_damage(page: Page, maps: Maps) -> None:
    """What could not be read while these pages were drawn, in a line at the foot of the first."""
    if maps.damaged:
        first, *others = maps.damaged
        said = f"{first}{f', and {len(others)} more' if others else ''}"
        page.write(LEFT, BOTTOM, shorten(said, RIGHT - LEFT, LEGEND), LEGEND, color=SOFT)
