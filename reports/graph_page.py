"""Which stretch of training came from which, what lay in the store, and how old each Gram teacher is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes

from common.drawing import wrap
from reports.axes import scaled, step_axis, titled
from reports.curves import entries
from reports.gram_teachers import teacher_age
from reports.graph import Stretch, segments, stretches
from reports.page import BOTTOM, FAINT, HAIR, LEFT, RIGHT, SOFT, TOP, TRUNK_LOOK, Look, Page, legend, new_page
from reports.parts import Line
from reports.run_folder import Run
from reports.timeline import INSET, KEY, NAMES, WORDS, draw_forks, draw_lane, lane_key, write_beside

ROWS = 14  # lanes on a page
MOST_ROWS_BESIDE_AGES = 9
AGES = 1.75  # inches high
SHOWN = ("fork", "gram", "gram_start", "gram_update", "evaluation")
STORED = {"color": "#f0d9a8", "linewidth": 11, "solid_capstyle": "butt", "zorder": 1.2}


def graph_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """The lanes as a tree, as many pages as they need, then the ages of Gram teachers, on the last where they fit."""
    found = stretches(run)
    pages = [
        _lanes_page(run, found[first : first + ROWS], arm_looks, first=first == 0)
        for first in range(0, len(found), ROWS)
    ]
    ages = {
        arm: [age for seed in run.seeds if isinstance(age := teacher_age(run, arm, seed), Line)] for arm in run.arms
    }
    if not any(ages.values()):
        return pages
    if len(found) > MOST_ROWS_BESIDE_AGES:
        pages.append(new_page("Gram teachers and their age", _age_caption(run)))
        legend(pages[-1], pages[-1].head + 0.1, entries(run, arm_looks, [arm for arm in ages if ages[arm]]))
    tall = AGES if len(found) <= MOST_ROWS_BESIDE_AGES else BOTTOM - 0.38 - TOP - 1.6
    _ages(pages[-1], run, {arm: own for arm, own in ages.items() if own}, arm_looks, tall=tall)
    return pages


def _lanes_page(run: Run, found: Sequence[Stretch], arm_looks: Mapping[str, Look], *, first: bool) -> Page:
    jobs, trained = segments(run)
    shared = f"{jobs} jobs in {trained} segments. " if jobs else ""
    caption = (
        f"Each lane is an arm: it begins where it forks from the lane that a dotted line leads up to. {shared}"
        "Dotted: not reached."
    )
    page = new_page("What came from what" + ("" if first else ", continued"), caption)
    y = lane_key(page, page.head + 0.1, {kind: KEY[kind] for kind in SHOWN})
    stored = any(one.found is not None for one in found)
    if stored:
        page.write(LEFT, y + 0.14, "Broad: lay in the store, trained for another experiment before.", 8, color=SOFT)
    y += 0.3 if stored else 0.1
    room = BOTTOM - 0.45 - y - (AGES + 0.9 if len(found) <= MOST_ROWS_BESIDE_AGES else 0.0)
    high = min(room, 0.55 * len(found) + 0.2)
    axes = page.axes(LEFT + NAMES, y, RIGHT - LEFT - NAMES - WORDS, high)
    step_axis(axes, 0, max(max(one.lane.stop for one in found), run.steps or 0), label=True)
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    for row, one in enumerate(found):
        look = arm_looks.get(one.lane.name, TRUNK_LOOK)
        _stretch(axes, row, one, look)
        lane = replace(one.lane, words="; ".join(filter(None, [*one.notes, one.lane.words])))
        centre = y + (row + 0.6) / (len(found) + 0.2) * high
        write_beside(page, lane, centre=centre, look=look, tall=high / len(found) > 0.5)
    draw_forks(axes, [one.lane for one in found])
    return page


def _stretch(axes: Axes, row: int, one: Stretch, look: Look) -> None:
    if one.found is not None:
        axes.plot([one.lane.start, one.found], [row, row], **STORED)
    if one.reached < one.lane.stop:
        ends = [max(one.reached, one.lane.start), one.lane.stop]
        axes.plot(ends, [row, row], color=FAINT, linewidth=1.2, linestyle=(0, (1, 2)), zorder=2)
    draw_lane(axes, row, replace(one.lane, stop=max(one.reached, one.lane.start)), look)


def _age_caption(run: Run) -> str:
    seeds = ", each seed a line" if len(run.seeds) > 1 else ""
    return f"How many steps ago the network was taken that an arm is anchored to{seeds}; it drops where it is renewed."


def _ages(
    page: Page, run: Run, ages: Mapping[str, Sequence[Line]], arm_looks: Mapping[str, Look], *, tall: float
) -> None:
    axes = page.axes(LEFT + NAMES, BOTTOM - 0.38 - tall, RIGHT - LEFT - NAMES - WORDS, tall)
    last = max(float(one.steps[-1]) for own in ages.values() for one in own)
    step_axis(axes, 0, max(last, run.steps or 0), label=True)
    scaled(axes.yaxis, ticks=4)
    titled(axes, "Age of the Gram teacher (steps)", "")
    for arm, own in ages.items():
        look = arm_looks[arm]
        for line in {(*one.steps, *one.values): one for one in own}.values():
            axes.plot(line.steps, line.values, color=look.colour, linestyle=look.dash, linewidth=1.3)
            axes.plot(line.steps[:1], line.values[:1], color=look.colour, marker="*", markersize=7)
    axes.set_ylim(bottom=min(0.0, *(float(one.values.min()) for own in ages.values() for one in own)))
    axes.axhline(0, color=HAIR, linewidth=0.6)
    words = [f"{arm}: {said}" for arm in run.arms if isinstance(said := teacher_age(run, arm, run.seeds[0]), str)]
    lines = [_age_caption(run), *words] if page.figure.axes[0] is not axes else words
    text = [part for one in lines for part in wrap(one, WORDS - INSET, 7.5, lines=4)]
    page.flow(RIGHT - WORDS + INSET, BOTTOM - 0.38 - tall, text[: int(tall / 0.14)], 7.5, color=SOFT, leading=1.3)
