"""Arms against the baseline where both have used as many images, FLOPs or seconds, beside equal steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from common.drawing import shorten
from reports import words
from reports.compared import PLACES, Difference, Differences, Where, foremost
from reports.estimates import Column
from reports.lineage import unrecorded
from reports.page import BOTTOM, FAINT, LEFT, RIGHT, SOFT, TOP, Look, Page, each, new_page
from reports.results_table import measure_heads
from reports.run_folder import Run
from reports.verdict_pages import COLOURS, MARKS
from reports.verdict_words import word

START, HEAD, NAME, ROW, GAP = TOP + 0.7, 0.34, 0.2, 0.3, 0.1
BUDGET, STEPS, FIRST = LEFT + 2.05, LEFT + 3.35, LEFT + 3.5  # right edges of two columns, left edge of the others
CURVE = "metrics.jsonl does not tell of all steps of"
RECORDS = {"images": CURVE, "seconds": CURVE, "flops": "experiment.json does not tell what costs a step of"}


def compute_pages(run: Run, compared: Differences, arm_looks: Mapping[str, Look]) -> list[Page]:
    """A block for each arm, as many pages as they need, of nearly equal fill; none where nothing is to be compared."""
    shown = words.leading_or_first(run)
    arms = [arm for arm in run.others if any(foremost(run, compared, column, arm) for column in shown)]
    chained = {arm for arm in arms if any((column, arm, "ends") in compared for column in shown)}
    rows = len(PLACES if chained else PLACES[:-1])
    most = int((BOTTOM + GAP - START - HEAD) / (NAME + ROW * rows + GAP))
    pages: list[Page] = []
    y = BOTTOM
    for number, arm in enumerate(arms):
        if number % each(len(arms), most=most) == 0:
            pages.append(_new(run, shown, first=not pages))
            y = START + HEAD
        page = pages[-1]
        page.swatch(LEFT, y + 0.08, arm_looks[arm])
        page.write(LEFT + 0.38, y + 0.12, shorten(arm, 5.0, 9, weight="bold"), 9, weight="bold")
        y += NAME
        for measure in PLACES if arm in chained else PLACES[:-1]:
            found = [compared.get((column, arm, measure)) for column in shown]
            page.write(LEFT + 0.38, y + 0.13, words.PLACES[measure], 8, color=SOFT)
            if any(found):
                _row(page, found, y=y)
            else:
                why = shorten(reason(run, arm, measure, chained=arm in chained), RIGHT - FIRST, 8)
                page.write(FIRST, y + 0.13, why, 8, color=FAINT)
            y += ROW
        y += GAP
        page.rule(LEFT, RIGHT, y - 0.06)
    return pages


def _new(run: Run, shown: Sequence[Column], *, first: bool) -> Page:
    caption = (
        f"Differences from {shorten(run.baseline, 2.0, 9)} where both have used as much from step 0 on, what they "
        "share included: where the one that used less ends. Between evaluations: the straight line. FLOPs are counted, "
        "seconds measured, of training alone."
    )
    page = new_page("Equal steps, equal compute" + ("" if first else ", continued"), caption, size=8.5)
    page.write(BUDGET, START + 0.12, "both used", 7, ha="right", color=FAINT)
    page.write(STEPS, START + 0.12, "step of arm, baseline", 7, ha="right", color=FAINT)
    measure_heads(page, shown, first=FIRST, y=START)
    return page


def reason(run: Run, arm: str, measure: Where, *, chained: bool = False) -> str:
    """Why an arm is not compared with the baseline there; `chained`: one goes on from the end of the other."""
    if chained:
        return "none in common: one goes on from the end of the other"
    if measure in ("steps", "ends"):
        return "none in common"
    for lane, seed in product((arm, run.baseline), run.seeds):
        if lost := unrecorded(run, lane, seed, measure):
            return f"not recorded: {RECORDS[measure]} {lost}"
    return "none in common: one was not evaluated within what the other used"


def _row(page: Page, found: Sequence[Difference | None], *, y: float) -> None:
    base, known = y + 0.13, next(one for one in found if one is not None)
    page.write(BUDGET, base, words.budget(known), 8, ha="right", color=SOFT)
    page.write(STEPS, base, f"{words.count(known.step)}, {words.count(known.baseline_step)}", 8, ha="right", color=SOFT)
    for place, one in enumerate(found, start=1):
        edge = FIRST + place * (RIGHT - FIRST) / len(found)
        if one is None:
            page.write(edge, base, words.NONE, 8, ha="right", color=FAINT)
            continue
        page.write(edge, base, words.difference(one.column, one), 8, ha="right")
        said = word(one)
        page.write(edge, base + 0.12, MARKS.get(said, "") + said, 6.5, ha="right", color=COLOURS.get(said, FAINT))
