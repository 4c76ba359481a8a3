"""Page one: the question, the verdicts in words, the results table, and what to read with care."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from common.drawing import wrap
from reports import words
from reports.cautions import cautions
from reports.compared import Differences
from reports.features.reading import missing, read
from reports.page import BOTTOM, FAINT, LEFT, RIGHT, SOFT, TOP, WARN, WARN_FILL, Look, Page, new_page
from reports.results_table import FOOT, HEADER, ROW, continued, draw_table, legend_line, tables
from reports.run_folder import Run
from reports.since_start import baseline_change


class Tightness(NamedTuple):
    """How much the words above the table may take, the baseline's own way among them, and the height of its rows."""

    gaps: int
    sentences: int
    row: float
    own_way: bool = False


MOST_CAUTIONS, CARE, AIR = 6, 1.2, 0.08  # CARE: inches to the words beside their heading; AIR: above the box
LEVELS = (
    Tightness(9, 99, ROW, own_way=True),
    Tightness(9, 99, 0.38, own_way=True),
    Tightness(9, 99, 0.38),
    Tightness(6, 6, 0.33),
    Tightness(4, 4, 0.3),
)


def front_pages(run: Run, compared: Differences, arm_looks: Mapping[str, Look]) -> list[Page]:
    """Page one with one table, then the pages for the columns and rows that it has no room for."""
    first, *others = tables(run, compared, arm_looks)
    gaps = [*words.incomplete(run), *missing(run, read(run))]
    said = words.sentence_list(cautions(run), most=MOST_CAUTIONS)
    notes = [wrap(text, RIGHT - LEFT - CARE - 0.15, 8, lines=2) for text in said]
    foot = FOOT + _height(notes)
    page, y, room, row = _loosest(run, compared, gaps, rows=len(first.lines), foot=foot)
    y = legend_line(page, run, draw_table(page, first, first.lines[:room], y=y, row=row))
    _cautions(page, notes, y=y + AIR)
    return [page, *continued([(first, first.lines[room:]), *((table, table.lines) for table in others)])]


def _loosest(
    run: Run, compared: Differences, gaps: Sequence[str], *, rows: int, foot: float
) -> tuple[Page, float, int, float]:
    """Page one with its words, where the table begins, how many rows fit above its foot, and their height."""
    tried = []
    for level in LEVELS:
        page = new_page()
        y = _words(page, run, compared, gaps, level=level)
        room = max(1, int((BOTTOM - foot - y - HEADER) / level.row))
        tried.append((page, y, room, level.row))
        if room >= rows:
            break
    return tried[-1]


def _words(page: Page, run: Run, compared: Differences, gaps: Sequence[str], *, level: Tightness) -> float:
    y = _question(page, run)
    y = _incomplete(page, words.sentence_list(gaps, most=level.gaps), y + 0.1)
    return _findings(page, run, compared, y=y + 0.14, level=level) + 0.16


def _question(page: Page, run: Run) -> float:
    size = 19.0 if len(run.question) < 120 else 15.0
    title = run.question or run.name
    y = page.flow(
        LEFT, TOP - 0.1, wrap(title, RIGHT - LEFT, size, weight="bold", lines=3), size, leading=1.22, weight="bold"
    )
    parts = words.asked(run)
    if not parts:
        return y
    gap, bottoms = 0.3, [y]
    width = (RIGHT - LEFT - gap * (len(parts) - 1)) / len(parts)
    for position, (label, text) in enumerate(parts):
        x = LEFT + position * (width + gap)
        page.write(x, y + 0.2, label.upper(), 6.5, color=FAINT, weight="bold")
        bottoms.append(page.flow(x, y + 0.24, wrap(text, width, 8.5, lines=7), 8.5, color=SOFT))
    return max(bottoms)


def _incomplete(page: Page, gaps: Sequence[str], y: float) -> float:
    if not gaps:
        return y
    wide = RIGHT - LEFT - 0.3
    lines = [line for gap in gaps for line in wrap(gap, wide - 1.2, 8, lines=2)]
    height = 0.14 + len(lines) * 8 * 1.38 / 72
    page.box(LEFT, y, RIGHT - LEFT, height, fill=WARN_FILL)
    page.box(LEFT, y, 0.05, height, fill=WARN)
    page.write(LEFT + 0.15, y + 0.07 + 8 / 72, "Incomplete", 8, weight="bold", color=WARN)
    page.flow(LEFT + 1.2, y + 0.07, lines, 8)
    return y + height


def _findings(page: Page, run: Run, compared: Differences, *, y: float, level: Tightness) -> float:
    """The verdict on each arm, and what brackets and words mean; returns the bottom edge."""
    alone = f"One arm only ({run.baseline}): nothing to compare it with."
    count = len(words.headline(run, compared))
    size = 10.5 if count <= 3 else 9.5 if count <= 5 else 8.5
    sentences = words.headline(run, compared, most=level.sentences) or [alone]
    page.write(LEFT, y + 0.09, "VERDICTS IN WORDS", 6.5, color=FAINT, weight="bold")
    y += 0.15
    for sentence in filter(None, [*sentences, baseline_change(run) if level.own_way else ""]):
        y = page.flow(LEFT, y, wrap(sentence, RIGHT - LEFT, size, lines=3), size) + 0.03
    note = wrap(words.interval_note(run, compared), RIGHT - LEFT, 7.5, lines=3)
    return page.flow(LEFT, y + 0.04, note, 7.5, color=SOFT)


def _height(notes: Sequence[Sequence[str]]) -> float:
    """Of the box that holds them, with the air above it."""
    return AIR + 0.14 + sum(len(lines) for lines in notes) * 8 * 1.38 / 72 if notes else 0.0


def _cautions(page: Page, notes: Sequence[Sequence[str]], *, y: float) -> None:
    if not notes:
        return
    height = _height(notes) - AIR
    page.box(LEFT, y, RIGHT - LEFT, height, fill=WARN_FILL)
    page.box(LEFT, y, 0.05, height, fill=WARN)
    page.write(LEFT + 0.15, y + 0.07 + 8 / 72, "READ WITH CARE", 6.5, color=WARN, weight="bold")
    page.flow(LEFT + CARE, y + 0.07, [line for lines in notes for line in lines], 8)
