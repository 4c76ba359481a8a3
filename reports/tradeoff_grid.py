"""The trade-off of each arm in a panel of its own, its path coloured by the step, the others pale behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.pyplot import get_cmap

from common.drawing import shorten
from reports import words
from reports.axes import scaled, steps_text
from reports.estimates import Column, primary
from reports.events import draw_events, draw_front, event_key
from reports.page import BOTTOM, LEFT, RIGHT, SOFT, WIDTH, Look, Page, even_groups, new_page
from reports.paths import Path, best_of, extent, paths
from reports.run_folder import TRUNK, Run
from reports.tradeoff import CROSSES_UP_TO, draw_crosses, stretched

ACROSS, DOWN = 4, 3
GAP_X, GAP_Y, MARGIN = 0.2, 0.36, 0.55
REACH = 0.5  # of the paths' span: how far intervals stretch the axes
OTHERS = "#dddddd"
STEPS = ListedColormap(get_cmap("cividis")(np.linspace(0, 0.9, 256)), name="steps")  # its end is too pale on white


def tradeoff_grid_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """As many pages as the arms need; none where few enough stand in one plane, or a measure is missing."""
    across, up = primary(run, "global"), primary(run, "dense")
    if across is None or up is None or len(run.arms) <= CROSSES_UP_TO:
        return []
    ways = paths(run, across, up, arm_looks=arm_looks)
    arms = [way for way in ways if way.lane != TRUNK]
    groups = even_groups(arms, most=ACROSS * DOWN)
    return [_page(run, ways, group, across=across, up=up, first=not place) for place, group in enumerate(groups)]


def _page(run: Run, ways: Sequence[Path], group: Sequence[Path], *, across: Column, up: Column, first: bool) -> Page:
    seeds = f"; thin: each of {len(run.seeds)} seeds" if len(run.seeds) > 1 else ""
    caption = (
        f"Each arm's path through the plane of {across.title} (right is better) and {up.title} (up is better), all at "
        f"one scale; its colour is the step, crosses are 95 % intervals{seeds}; grey: the other arms."
    )
    page = new_page("Dense against global quality, arm by arm" + ("" if first else ", continued"), caption)
    y = page.head + 0.1
    last = max(float(way.steps[-1]) for way in ways)
    _step_key(page, y, last=last)
    top = y + 0.68
    columns = ACROSS if len(group) > (ACROSS - 1) * DOWN else ACROSS - 1
    wide = (RIGHT - LEFT - MARGIN - GAP_X * (columns - 1)) / columns
    high = (BOTTOM - 0.5 - top - GAP_Y * (DOWN - 1)) / DOWN
    thinned = False
    for place, way in enumerate(group):
        row, column = divmod(place, columns)
        axes = page.axes(LEFT + MARGIN + column * (wide + GAP_X), top + row * (high + GAP_Y), wide, high)
        foot = place + columns >= len(group)
        thinned |= _panel(axes, run, ways, way, across=across, up=up, left=column == 0, foot=foot)
    event_key(page, run.events, y + 0.22, thinned=thinned, front=len(best_of(ways, across, up)) > 1)
    return page


def _step_key(page: Page, y: float, *, last: float) -> None:
    """Which colour is which step, in a row 0.2 inches high."""
    axes = page.axes(LEFT + 0.9, y + 0.05, 2.4, 0.1)
    axes.imshow(np.linspace(0, 1, 256)[None], cmap=STEPS, aspect="auto", extent=(0, last, 0, 1))
    axes.set_axis_off()
    page.write(LEFT + 0.85, y + 0.14, "step 0", 8, ha="right", color=SOFT)
    page.write(LEFT + 3.37, y + 0.14, steps_text(last), 8, color=SOFT)


def _panel(
    axes: Axes, run: Run, ways: Sequence[Path], way: Path, *, across: Column, up: Column, left: bool, foot: bool
) -> bool:
    """One arm before the others; returns whether marks of events were left out."""
    scaled(axes.xaxis, ticks=4)
    scaled(axes.yaxis, ticks=4)
    _limits(axes, ways)
    draw_front(axes, best_of(ways, across, up), right=across.kind.higher_is_better)
    for other in ways:
        if other is not way:
            axes.plot(*other.points.T, color=OTHERS, linewidth=0.8, zorder=1)
    for seed in way.seeds:
        axes.plot(*seed.T, color=way.look.colour, linewidth=0.4, alpha=0.3, zorder=2)
    draw_crosses(axes, way, small=True)
    _coloured(axes, way, last=max(float(one.steps[-1]) for one in ways))
    thinned = draw_events(axes, run.events, [way], small=True)
    if not up.kind.higher_is_better:
        axes.invert_yaxis()
    wide = axes.get_position().width * WIDTH
    name = shorten(way.lane, wide, 9, weight="bold")
    axes.set_title(name, fontsize=9, loc="left", weight="bold", color=way.look.colour, pad=4)
    axes.tick_params(labelleft=left, labelbottom=foot)
    if foot:
        axes.set_xlabel(_label(across, wide), fontsize=8)
    if left:
        axes.set_ylabel(_label(up, 2.0), fontsize=8)
    return thinned


def _label(column: Column, room: float) -> str:
    unit = f" ({words.unit(column)})" if words.unit(column) else ""
    return shorten(f"{column.title}{unit}", room, 8)


def _limits(axes: Axes, ways: Sequence[Path]) -> None:
    low, high = extent(ways)
    span = np.where(high > low, high - low, np.maximum(np.abs(high) * 0.05, 1e-3))
    low, high = stretched(low, high, ways, reach=REACH * span)
    pad = 0.06 * (high - low)
    axes.set(xlim=(low[0] - pad[0], high[0] + pad[0]), ylim=(low[1] - pad[1], high[1] + pad[1]))


def _coloured(axes: Axes, way: Path, *, last: float) -> None:
    """The path, each piece and each mark in the colour of its step."""
    norm = Normalize(0, max(last, 1.0))
    pieces = np.stack([way.points[:-1], way.points[1:]], axis=1)
    middles = (way.steps[:-1] + way.steps[1:]) / 2
    axes.add_collection(LineCollection([*pieces], colors=STEPS(norm(middles)), linewidths=1.8, zorder=3))
    marks = {"c": STEPS(norm(way.steps)), "marker": way.look.marker, "linewidths": 0.3, "edgecolors": "white"}
    axes.scatter(*way.points.T, s=14, zorder=5, **marks)
