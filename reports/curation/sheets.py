"""Contact sheets: strips of small images, each under a line of what they have in common."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from common.drawing import shorten
from reports.curation.story import Sheet, Strip
from reports.page import BOTTOM, HEIGHT, INK, LEFT, RIGHT, SOFT, TOP, WIDTH, Page, new_page

ACROSS = 14  # images of a strip
SIDE = (RIGHT - LEFT) / ACROSS - 0.08  # inches of an image
HEAD, WORDS, GAP = 0.2, 0.14, 0.14
BEGIN = TOP + 0.72


def sheet_pages(sheet: Sheet) -> list[Page]:
    """Pages of as many strips as fit; none for a sheet without strips."""
    pages: list[Page] = []
    y, axes = BOTTOM, None
    for strip in sheet.strips:
        high = HEAD + SIDE + (WORDS if any(one.words for one in strip.pictures) else 0) + GAP
        if axes is None or y + high > BOTTOM:
            title = sheet.title + (f" ({len(pages) + 1})" if pages else "")
            pages.append(new_page(title, sheet.subtitle))
            axes, y = _whole(pages[-1]), BEGIN
        _strip(pages[-1], axes, strip, y)
        y += high
    return pages


def _whole(page: Page) -> Axes:
    """One set of axes for all images of a page, in its inches: axes take longer to make than images."""
    axes = page.axes(0, 0, WIDTH, HEIGHT)
    axes.set(xlim=(0, WIDTH), ylim=(HEIGHT, 0), autoscale_on=False)
    axes.set_axis_off()
    return axes


def _strip(page: Page, axes: Axes, strip: Strip, y: float) -> None:
    page.write(LEFT, y + 0.12, shorten(strip.title, RIGHT - LEFT, 8.5), 8.5, weight="bold")
    for place, picture in enumerate(strip.pictures[:ACROSS]):
        x, top = LEFT + place * (SIDE + 0.08), y + HEAD
        axes.imshow(picture.image, extent=(x, x + SIDE, top + SIDE, top), aspect="auto")
        if picture.marked:
            axes.add_patch(Rectangle((x, top), SIDE, SIDE, fill=False, edgecolor=INK, linewidth=2))
        if picture.words:
            page.write(x, top + SIDE + 0.1, shorten(picture.words, SIDE, 6.5), 6.5, color=SOFT)
