"""Metrics over the size of the input, where the same was measured at several: what a higher resolution brings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from common.drawing import shorten
from reports import words
from reports.axes import scaled, titled
from reports.curves import draw_lane, entries, grid
from reports.estimates import Column, columns, final
from reports.page import TOP, TRUNK_LOOK, WIDTH, Look, Page, even_groups, legend, new_page
from reports.run_folder import Run

ACROSS, DOWN = 3, 2


def resolution_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """As many pages as the metrics need; none where every metric was measured at one size alone."""
    found = over_sizes(run)
    groups = even_groups(found, most=ACROSS * DOWN)
    return [_page(run, group, arm_looks, first=not place) for place, group in enumerate(groups)]


def over_sizes(run: Run) -> list[list[Column]]:
    """The columns that differ in their size alone, smallest first, in groups of at least two.

    The protocol's hash depends on the size, so its name and version tell that it is the same.
    """
    groups: dict[tuple[str, ...], list[Column]] = {}
    for column in columns(run):
        key = (column.eval, column.dataset, column.split, column.metric, column.protocol)
        groups.setdefault(key, []).append(column)
    several = (sorted(own, key=lambda one: one.size) for own in groups.values())
    return [own for own in several if len({one.size for one in own}) > 1]


def _page(run: Run, group: Sequence[Sequence[Column]], arm_looks: Mapping[str, Look], *, first: bool) -> Page:
    caption = (
        "The last step of each arm, measured at several sizes of the input; bands: 95 % intervals. A line that rises "
        "where others fall has features that hold at a higher resolution."
    )
    page = new_page("Metrics over the input's size" + ("" if first else ", continued"), caption)
    top = legend(page, max(TOP + 0.58, page.head + 0.1), entries(run, arm_looks)) + 0.32
    for axes, own in zip(grid(page, len(group), top=top, across=ACROSS, down=DOWN), group, strict=True):
        _panel(axes, run, own, arm_looks)
    return page


def _panel(axes: Axes, run: Run, own: Sequence[Column], arm_looks: Mapping[str, Look]) -> None:
    factor = words.scale(own[0])
    for lane in run.lanes:
        found = [(column.size, one) for column in own if (one := final(run, column, lane)) is not None]
        if found:
            mean = np.array([[one.low, one.value, one.high] for _, one in found]) * factor
            sizes, look = np.array([size for size, _ in found]), arm_looks.get(lane, TRUNK_LOOK)
            draw_lane(axes, sizes, mean, look, singles=(), band=True, small=False)
    unit = f" ({words.unit(own[0])})" if words.unit(own[0]) else ""
    room = axes.get_position().width * WIDTH
    titled(
        axes, shorten(f"{own[0].title}{unit}", 0.6 * room, 9, weight="bold"), f"{own[0].dataset} {words.arrow(own[0])}"
    )
    axes.set_xticks(sorted({column.size for column in own}))
    scaled(axes.yaxis, ticks=5)
    axes.set_xlabel("short side of the input, pixels")
