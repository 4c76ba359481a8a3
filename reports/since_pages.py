"""Each arm against its own beginning: whether it ends above or below its first evaluation, beside other arms."""

from __future__ import annotations

from collections.abc import Mapping

from common.drawing import shorten
from reports import words
from reports.compared import Difference
from reports.estimates import Column
from reports.page import BOTTOM, FAINT, INK, LEFT, RIGHT, SOFT, TOP, Look, Page, even_groups, new_page
from reports.results_table import measure_heads
from reports.run_folder import Run
from reports.since_start import changes, ends, side
from reports.verdict_pages import COLOURS

START, HEAD, ROW = TOP + 0.7, 0.34, 0.34
STEPS, FIRST = LEFT + 3.0, LEFT + 3.2  # right edge of the steps, left edge of the measures


def since_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """A row for each arm that was evaluated twice; none where none was."""
    shown = words.leading_or_first(run)
    found = changes(run, shown, run.arms)
    arms = [arm for arm in run.arms if any((column, arm) in found for column in shown)]
    groups = even_groups(arms, most=int((BOTTOM - START - HEAD) / ROW))
    pages = []
    for number, group in enumerate(groups):
        page = _new(shown, first=not number)
        for place, arm in enumerate(group):
            own = [found.get((column, arm)) for column in shown]
            _row(page, arm, arm_looks[arm], own, y=START + HEAD + place * ROW)
        pages.append(page)
    return pages


def _new(shown: list[Column], *, first: bool) -> Page:
    caption = (
        "Each arm's last evaluation less the first one on the way to it, the trunk's included: a fall from a peak in "
        "between does not show. 95 % intervals of its own, not corrected for the number of arms. Green is better, "
        "orange worse than at the start, where the interval leaves out zero."
    )
    page = new_page("Since the start of training" + ("" if first else ", continued"), caption, size=8.5)
    page.write(STEPS, START + 0.12, "first, last step", 7, ha="right", color=FAINT)
    measure_heads(page, shown, first=FIRST, y=START)
    return page


def _row(page: Page, arm: str, look: Look, found: list[Difference | None], *, y: float) -> None:
    base, known = y + 0.1, next(one for one in found if one is not None)
    page.swatch(LEFT, base - 0.04, look)
    page.write(LEFT + 0.38, base, shorten(arm, 1.7, 8.5, weight="bold"), 8.5, weight="bold")
    page.write(STEPS, base, f"{words.count(known.baseline_step)}, {words.count(known.step)}", 8, ha="right", color=SOFT)
    for place, one in enumerate(found, start=1):
        edge = FIRST + place * (RIGHT - FIRST) / len(found)
        if one is None:
            page.write(edge, base, words.NONE, 8, ha="right", color=FAINT)
            continue
        colour = COLOURS.get(side(one), INK)
        page.write(edge, base, words.difference(one.column, one), 8, ha="right", color=colour)
        page.write(edge, base + 0.13, ends(one), 6.5, ha="right", color=FAINT)
    page.rule(LEFT, RIGHT, y + ROW - 0.05)
