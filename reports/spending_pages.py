"""Each metric over what was spent: a row of panels for images, operations and time, where these differ from steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from common.drawing import shorten, text_width
from reports import words
from reports.axes import plain, scaled, titled
from reports.curves import BANDS_UP_TO, around, draw_lane, entries, grid
from reports.estimates import Column
from reports.lineage import Measure
from reports.page import SOFT, TOP, TRUNK_LOOK, WIDTH, Look, Page, even_groups, legend, new_page
from reports.run_folder import TRUNK, Run
from reports.spending import spending, telling, unit
from reports.steady import moving

DOWN = 3
NAMES: dict[Measure, str] = {"images": "images", "flops": "operations", "seconds": "time"}


def spending_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """As many pages as the metrics, signs of health apart, need; none where nothing is known but what steps show."""
    measures = telling(run)
    found = [column for column in moving(run) if column.kind.kind != "health"]
    if not measures or not found:
        return []
    beside = 2 if len(measures) < 3 else 1  # metrics in a row
    groups = even_groups(found, most=beside * DOWN)
    return [
        _page(run, group, arm_looks, measures=measures, beside=beside, first=not place)
        for place, group in enumerate(groups)
    ]


def _page(
    run: Run,
    group: Sequence[Column],
    arm_looks: Mapping[str, Look],
    *,
    measures: Sequence[Measure],
    beside: int,
    first: bool,
) -> Page:
    title = f"Each metric over {' and '.join(NAMES[measure] for measure in measures)} spent"
    page = new_page(title + ("" if first else ", continued"), _caption(run, measures), size=8.5)
    top = legend(page, max(TOP + 0.58, page.head + 0.1), entries(run, arm_looks)) + 0.34
    shown: list[tuple[Column, Measure]] = [(column, measure) for column in group for measure in measures]
    across = min(beside, len(group)) * len(measures)
    for axes, (column, measure) in zip(grid(page, len(shown), top=top, across=across, down=DOWN), shown, strict=True):
        _panel(axes, run, column, measure, arm_looks=arm_looks)
    return page


def _caption(run: Run, measures: Sequence[Measure]) -> str:
    seeds = f"Lines: mean of {len(run.seeds)} seeds, thin: single seeds. " if len(run.seeds) > 1 else ""
    band = "Bands: 95 % intervals. " if len(run.arms) <= BANDS_UP_TO else ""
    others = [NAMES[measure] for measure in NAMES if measure not in measures]
    alike = f" {' and '.join(others).capitalize()}: the same in every step, or not recorded." if others else ""
    return (
        f"Left of another line at one height: as good for less. {seeds}{band}Counted from step 0, what arms share "
        f"included; time is of training alone.{alike}"
    )


def _panel(axes: Axes, run: Run, column: Column, measure: Measure, *, arm_looks: Mapping[str, Look]) -> None:
    scaled(axes.yaxis, ticks=5)
    name = column.title + (f" ({words.unit(column)})" if words.unit(column) else "")
    room = axes.get_position().width * WIDTH
    name = shorten(name, room - 0.15, 9, weight="bold")
    note = f"{column.dataset} {words.arrow(column)}"
    fits = text_width(name, 9, weight="bold") + text_width(note, 7) + 0.05 <= room
    titled(axes, name, note if fits else words.arrow(column))
    found = {lane: one for lane in run.lanes if (one := spending(run, column, lane, measure)) is not None}
    if not found:
        axes.text(0.5, 0.5, "not recorded", transform=axes.transAxes, ha="center", color=SOFT)
        return
    size, counted = unit(measure, max(float(one.x.max()) for one in found.values()))
    low, high = around(np.concatenate([values for one in found.values() for _, values in one.singles]))
    factor = words.scale(column)
    for lane, one in found.items():
        mean = one.mean.copy()
        mean[:, [0, 2]] = np.clip(mean[:, [0, 2]], low, high)
        thin = [(x / size, values * factor) for x, values in one.singles] if len(run.seeds) > 1 else []
        band = len(run.arms) <= BANDS_UP_TO and lane != TRUNK
        look = arm_looks.get(lane, TRUNK_LOOK)
        draw_lane(axes, one.x / size, mean * factor, look, singles=thin, band=band, small=lane == TRUNK)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.set_xlabel(counted)
