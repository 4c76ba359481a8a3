"""Page one of a curation: what was asked, and what became of the images of each source."""

from __future__ import annotations

from common.drawing import shorten, text_width, wrap
from reports.curation.story import Story
from reports.page import BOTTOM, HAIR, LEFT, RIGHT, SOFT, TOP, Page, new_page

FACT = 1.25  # inches of a fact's title
ROW = 0.24
SIZE = 9.0


def front_page(story: Story) -> Page:
    """The question, the settings that matter, and the table of images."""
    page = new_page(f"Curation: {story.name}", story.question, size=10.0)
    y = TOP + 0.75
    for title, words in story.facts:
        page.write(LEFT, y + SIZE / 72, title, SIZE, color=SOFT)
        lines = wrap(words, RIGHT - LEFT - FACT, SIZE, lines=4)
        y = page.flow(LEFT + FACT, y, lines or ["–"], SIZE) + 0.06
    _table(page, story, y + 0.3)
    return page


def _table(page: Page, story: Story, y: float) -> None:
    page.write(LEFT, y, "What became of the images", 11, weight="bold")
    y += 0.3
    first = max(text_width(shorten(row[0], 3.5, SIZE), SIZE) for row in [story.columns, *story.rows]) + 0.4
    step = min((RIGHT - LEFT - first) / (len(story.columns) - 1), 1.35)
    most = int((BOTTOM - y) / ROW) - 2
    rows = [*story.rows[: most - 1], story.rows[-1]] if len(story.rows) > most else story.rows
    for number, row in enumerate([story.columns, *rows]):
        weight = "bold" if number in (0, len(rows)) else "normal"
        page.write(LEFT, y, shorten(row[0], 3.5, SIZE, weight=weight), SIZE, weight=weight)
        for column, cell in enumerate(row[1:], 1):
            page.write(LEFT + first + column * step, y, cell, SIZE, weight=weight, ha="right")
        if number in (0, len(rows) - 1):
            page.rule(LEFT, LEFT + first + (len(row) - 1) * step, y + 0.08, colour=HAIR)
        y += ROW
    if len(rows) < len(story.rows):
        page.write(LEFT, y, f"{len(story.rows) - len(rows)} more sources are counted in the last line", 8, color=SOFT)
