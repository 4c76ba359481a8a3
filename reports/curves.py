"""Each metric over steps, one panel per column of the results."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from common.drawing import shorten, text_width
from evals.results.table import Row
from reports import words
from reports.axes import fork_line, scaled, step_axis, titled
from reports.estimates import Column, of_column, seed_paths, trajectory
from reports.page import (
    BOTTOM,
    FAINT,
    LEFT,
    RIGHT,
    SOFT,
    TOP,
    TRUNK_LOOK,
    WIDTH,
    Look,
    Page,
    even_groups,
    legend,
    new_page,
)
from reports.run_folder import TRUNK, Event, Run
from reports.steady import moving

ACROSS, DOWN = 3, 2
BAR, BARS = (0.035, 0.1), 0.6  # inches from one interval bar to the next: between these, by the room for all
CHANCE_REACH = 0.7  # of the values' span, as far as the axis may be stretched for the line of chance
BANDS_UP_TO = 4  # more bands than these hide one another
FLOOR, FLOOR_ROW = 0.21, 0.035  # of a panel's height: for all rows of events at its foot, and for one
REACH = 1.0  # of the values' span, beyond which no interval stretches the axis: one over two seeds is 9 spreads wide


_MARKS = {"gram_update": "|", "gram_start": "*"}  # of events at the foot of a panel

Ends = tuple[float, float]


class Chance(NamedTuple):
    """The value of a guess, in shown units, and whether a line there leaves the curves their height."""

    level: float
    near: bool


def metric_pages(run: Run, arm_looks: Mapping[str, Look]) -> list[Page]:
    """As many pages as the panels need, of nearly equal fill; signs of health have pages of their own."""
    found = [column for column in moving(run) if column.kind.kind != "health"]
    groups = even_groups(found, most=ACROSS * DOWN)
    return [_page(run, group, arm_looks, number=number) for number, group in enumerate(groups)]


def grid(page: Page, count: int, *, top: float, across: int, down: int, beside: float = 0.0) -> list[Axes]:
    """`count` panels, row by row, in a grid that fills the page, each with `beside` inches free on its right."""
    across = min(across, count)
    down = min(down, -(-count // across))
    gap_x, gap_y, margin = 0.6 + beside, 0.78, 0.42
    width = (RIGHT - LEFT - margin - beside - gap_x * (across - 1)) / across
    height = min((BOTTOM - 0.38 - top - gap_y * (down - 1)) / down, 3.6)
    return [
        page.axes(
            LEFT + margin + (number % across) * (width + gap_x),
            top + (number // across) * (height + gap_y),
            width,
            height,
        )
        for number in range(count)
    ]


def entries(run: Run, arm_looks: Mapping[str, Look], lanes: Collection[str] | None = None) -> list[tuple[str, Look]]:
    """The legend: the trunk, if there is one, then the arms; these `lanes` alone where they are given."""
    shown = [lane for lane in run.lanes if lanes is None or lane in lanes]
    return [("trunk (shared)", TRUNK_LOOK) if lane == TRUNK else (lane, arm_looks[lane]) for lane in shown]


def _page(run: Run, group: Sequence[Column], arm_looks: Mapping[str, Look], *, number: int) -> Page:
    page = new_page("Each metric over training" + (", continued" if number else ""), curves_caption(run))
    top = legend(page, max(TOP + 0.58, page.head + 0.1), entries(run, arm_looks)) + 0.32
    across = 2 if len(group) == 4 else ACROSS
    panels = grid(page, len(group), top=top, across=across, down=DOWN, beside=beside(run))
    for axes, column in zip(panels, group, strict=True):
        metric_panel(axes, run, column, arm_looks=arm_looks)
    return page


def curves_caption(run: Run) -> str:
    many = (
        f"Lines: mean of {len(run.seeds)} seeds at steps that all have{_banded(run)}, thin: single seeds. "
        if len(run.seeds) > 1
        else ""
    )
    over = "seeds" if len(run.seeds) > 1 else "evaluation images"
    return (
        f"{many}Bars at the right edge: 95 % interval over {over} at the arm's last step. "
        "Marks on the floor: ★ Gram loss starts, | Gram teacher renewed (grey: of several arms)."
    )


def _banded(run: Run) -> str:
    return ", with its 95 % interval" if len(run.arms) <= BANDS_UP_TO else ""


def metric_panel(axes: Axes, run: Run, column: Column, *, arm_looks: Mapping[str, Look]) -> None:
    rows, title = of_column(run, column), column.title + (f" ({words.unit(column)})" if words.unit(column) else "")
    wide = axes.get_position().width * WIDTH
    title, chance = shorten(title, wide - 0.15, 9, weight="bold"), chance_of(run, column, rows)
    room = wide - text_width(title, 9, weight="bold") - 0.1
    hint = words.hint(column) if text_width(words.hint(column), 7) <= room else words.arrow(column)
    titled(axes, title, f"{shorten(f'{column.dataset} · {column.version}', wide, 7)}\n{hint}")
    scaled(axes.yaxis)
    if not rows:
        axes.text(0.5, 0.5, "no finite value", transform=axes.transAxes, ha="center", color=SOFT)
        return
    step_axis(axes, 0, max(run.steps or 0, *(row.step for row in rows)), label=True)
    lanes, within = [lane for lane in run.lanes if any(row.arm == lane for row in rows)], within_reach(column, rows)
    for lane in lanes:
        look, band = arm_looks.get(lane, TRUNK_LOOK), len(run.arms) <= BANDS_UP_TO
        _lane(axes, run, column, lane=lane, look=look, band=band, within=within)
    _end_bars(axes, run, column, arms=[lane for lane in lanes if lane != TRUNK], arm_looks=arm_looks, within=within)
    _open_up(axes)
    for number, step in enumerate(run.forks):
        fork_line(axes, step, text="" if number else "fork")
    if chance is not None and chance.near:
        _chance_line(axes, chance.level)
    foot = _floor(axes, run, arm_looks)
    if chance is not None and not chance.near:
        text = f"chance ↓ {words.number(chance.level, 1)}"
        axes.text(0.99, foot + 0.02, text, transform=axes.transAxes, fontsize=7, color=SOFT, ha="right")


def _lane(axes: Axes, run: Run, column: Column, *, lane: str, look: Look, band: bool, within: Ends) -> None:
    path, factor = trajectory(run, column, lane), words.scale(column)
    steps = np.array([estimate.step for estimate in path])
    mean = np.array([[estimate.low, estimate.value, estimate.high] for estimate in path]).reshape(-1, 3) * factor
    mean[:, [0, 2]] = np.clip(mean[:, [0, 2]], *within)
    singles = seed_paths(run, column, lane).values() if len(run.seeds) > 1 else ()
    thin = [(np.array([*single]), np.array([*single.values()]) * factor) for single in singles]
    draw_lane(axes, steps, mean, look, singles=thin, band=band and lane != TRUNK, small=lane == TRUNK)


def draw_lane(
    axes: Axes,
    x: np.ndarray,
    mean: np.ndarray,
    look: Look,
    *,
    singles: Sequence[tuple[np.ndarray, np.ndarray]],
    band: bool,
    small: bool,
) -> None:
    """The mean of the seeds over `x` [n], with its interval as a band where that is asked for, and single seeds thin.

    mean: low end, value and high end [n, 3].
    """
    low, value, high = mean.T
    for own_x, own in singles:
        axes.plot(own_x, own, color=look.colour, linewidth=0.5, alpha=0.35, zorder=2)
    if band and np.isfinite(low).any():
        axes.fill_between(x, low, high, color=look.colour, alpha=0.10, linewidth=0, zorder=1)
    axes.plot(x, value, color=look.colour, linestyle=look.dash, linewidth=1.3, zorder=4)
    sparse = slice(None, None, max(1, len(x) // 14))
    marks = {"color": look.colour, "marker": look.marker, "markersize": 2.2 if small else 3.2, "linestyle": "none"}
    axes.plot(x[sparse], value[sparse], zorder=5, **marks)


def within_reach(column: Column, rows: Sequence[Row]) -> Ends:
    """How far intervals are drawn, in shown units: the values with some way to both sides."""
    values = [row.value for row in rows] + [end for row in rows for end in (row.low, row.high) if math.isfinite(end)]
    low, high = around(values)
    return low * words.scale(column), high * words.scale(column)


def around(values: Sequence[float] | np.ndarray) -> Ends:
    """The ends of the values with some way to both sides."""
    low, high = float(np.min(values)), float(np.max(values))
    span = (high - low) or abs(low) or 1.0  # all are equal, or zero
    return low - REACH * span, high + REACH * span


def _end_bars(
    axes: Axes, run: Run, column: Column, *, arms: Sequence[str], arm_looks: Mapping[str, Look], within: Ends
) -> None:
    """Intervals of the last values, side by side to the right of the panel so that none hides another.

    An arrow stands where one goes on.
    """
    mixed = blended_transform_factory(axes.transAxes, axes.transData)
    factor = words.scale(column)
    spacing = _spacing(run) / (axes.get_position().width * WIDTH)
    for number, (arm, path) in enumerate((arm, trajectory(run, column, arm)) for arm in arms):
        if not path:
            continue
        look, estimate = arm_looks[arm], path[-1]
        x, ends = 1 + (number + 1) * spacing, np.array([estimate.low, estimate.high]) * factor
        how = {"transform": mixed, "color": look.colour, "clip_on": False, "zorder": 6}
        if np.isfinite(ends).all():
            beyond, ends = ends, np.clip(ends, *within)
            axes.plot([x, x], ends, linewidth=1.0, **how)
            for end, whole, marker in zip(ends, beyond, ("v", "^"), strict=True):
                if end != whole:
                    axes.plot([x], [end], marker=marker, markersize=3.5, **how)
            axes.update_datalim(np.column_stack([[estimate.step] * 2, ends]), updatex=False)
        axes.plot([x], [estimate.value * factor], marker=look.marker, markersize=3, **how)
    axes.autoscale_view(scalex=False)


def _open_up(axes: Axes) -> None:
    """Limits around what is the same in all but rounding, which would have ticks of 1e-17 else."""
    low, high = axes.get_ylim()
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-6):
        middle = (low + high) / 2
        half = 0.1 * abs(middle) if abs(middle) > 1e-12 else 0.05
        axes.set_ylim(middle - half, middle + half)


def beside(run: Run) -> float:
    """Inches that the intervals at the end of a panel take on its right."""
    return _spacing(run) * (len(run.arms) + 0.5)


def _spacing(run: Run) -> float:
    """Inches from one interval bar to the next."""
    return min(max(BARS / len(run.arms), BAR[0]), BAR[1])


def chance_of(run: Run, column: Column, rows: Sequence[Row]) -> Chance | None:
    """What guessing scores; None where the run does not say."""
    level = run.chance.get(
        f"{column.dataset}/{column.metric}", run.chance.get(column.metric)
    )  # the latter: before it knew of sets
    if level is None or not rows:
        return None
    values = [row.value for row in rows]
    below, span = min(values) - float(level), max(values) - min(values)
    return Chance(float(level) * words.scale(column), near=below <= CHANCE_REACH * span)


def _chance_line(axes: Axes, level: float) -> None:
    axes.axhline(level, color=FAINT, linewidth=0.8, linestyle=(0, (1, 2)), zorder=1)
    axes.text(
        0.3, level, "chance", transform=axes.get_yaxis_transform(), fontsize=7, color=SOFT, ha="center", va="bottom"
    )


def _floor(axes: Axes, run: Run, arm_looks: Mapping[str, Look]) -> float:
    """Events in a strip at the foot of the panel; returns its share of the height.

    Arms to which the same happens share a row; those that no room is left for are left out.
    """
    rows: dict[tuple[Event, ...], list[str]] = {}
    for arm in run.arms:
        if happened := tuple(event for event in run.events.get(arm, ()) if event.kind in _MARKS):
            rows.setdefault(happened, []).append(arm)
    shown = [*rows.items()][: int(FLOOR / FLOOR_ROW)]
    low, high = axes.get_ylim()
    share = FLOOR_ROW * len(shown)
    axes.set_ylim(low - share / (1 - share) * (high - low), high)
    for row, (happened, arms) in enumerate(shown):
        y = FLOOR_ROW * (len(shown) - row - 0.5)
        colour = arm_looks[arms[0]].colour if len(arms) == 1 else SOFT
        for kind, marker in _MARKS.items():
            steps = [event.step for event in happened if event.kind == kind]
            how = {"color": colour, "marker": marker, "markersize": 4.5}
            how |= {"markeredgewidth": 0.8, "linestyle": "none", "zorder": 7}
            axes.plot(steps, [y] * len(steps), transform=axes.get_xaxis_transform(), **how)
    return share
