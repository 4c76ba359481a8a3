"""The pages of plan.pdf: what happens when in the trunk and in each arm, and how every scheduled value moves along."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from common.disk import whole
from common.drawing import shorten, text_width, wrap
from common.timeline import Curve, Lane, Timeline
from reports.axes import plain, scaled, step_axis, titled
from reports.curves import grid
from reports.page import (
    BOTTOM,
    FAINT,
    HAIR,
    HEIGHT,
    INK,
    LEFT,
    RIGHT,
    SOFT,
    TOP,
    TRUNK_COLOUR,
    TRUNK_LOOK,
    WIDTH,
    Look,
    Page,
    looks,
    new_page,
    number_pages,
    style,
)
from reports.pdf import as_pdf

ROWS = 16  # lanes on a page
NAMES, WORDS, INSET = 1.75, 2.6, 0.2  # inches left and right of the lanes
ACROSS, DOWN = 2, 3
BESIDE = 1.3  # inches right of a panel, for the names of its curves
APART = 0.05  # inches between ticks, at least
STAIRS_UP_TO = 60  # steps of a run whose single steps are shown
LEAP = 0.05  # of what a panel shows: a change from one step to the next that is drawn upright
KEY = {
    "fork": "fork",
    "gram": "Gram loss on",
    "gram_start": "its start",
    "gram_update": "its teacher renewed",
    "frozen": "EMA kept as a first Gram teacher",
    "evaluation": "evaluation and full state",
    "state": "full state in between",
}
MARKS: dict[str, dict] = {
    "gram_start": {"marker": "*", "markersize": 8, "markeredgecolor": "white", "markeredgewidth": 0.3},
    "gram_update": {"marker": "d", "markersize": 5, "markerfacecolor": "white", "markeredgewidth": 1.0},
    "frozen": {"marker": "o", "markersize": 5, "markerfacecolor": "white", "markeredgewidth": 1.0},
    "fork": {"marker": "o", "markersize": 9.5, "color": INK, "markerfacecolor": "none", "markeredgewidth": 0.8},
    "evaluation": {"marker": 2, "markersize": 5},  # a tick upwards
    "state": {"marker": 3, "markersize": 3.5, "color": FAINT},
}


def build_plan(plan: Timeline, target: Path) -> None:
    """Write what a plan draws as a PDF; the same plan gives the same bytes."""
    with style():
        pdf = as_pdf(timeline_pages(plan), title=f"{plan.name}, plan", bar="plan")
    with whole(target) as new:
        new.write_bytes(pdf)


def timeline_pages(plan: Timeline) -> list[Page]:
    """All pages, numbered; call it inside `reports.page.style()`."""
    arm_looks = looks(plan.arms, plan.arms[0])
    pages = [
        _lanes_page(plan, plan.lanes[first : first + ROWS], arm_looks, first=first == 0)
        for first in range(0, len(plan.lanes), ROWS)
    ]
    titles = [*plan.changing]
    pages += [
        _values_page(plan, titles[first : first + ACROSS * DOWN], arm_looks, first=first == 0)
        for first in range(0, len(titles), ACROSS * DOWN)
    ]
    number_pages(pages, f"{plan.name} · plan")
    return pages


# --- what happens when


def _lanes_page(plan: Timeline, lanes: Sequence[Lane], arm_looks: Mapping[str, Look], *, first: bool) -> Page:
    page = new_page(f"Plan of {plan.name}" + ("" if first else ", continued"), plan.question)
    y = TOP + 0.62
    if first:
        whole = (words.replace(" ", "\u00a0") for words in plan.constants)
        same = "The same in every step of every arm: " + "\u00a0· ".join(whole)
        y = page.flow(LEFT, y, wrap(same, RIGHT - LEFT, 8, lines=4), 8, color=SOFT) + 0.12
    y = lane_key(page, y) + 0.1
    room = BOTTOM - 0.45 - y
    high = min(room, 0.62 * len(lanes) + 0.2)
    axes = page.axes(LEFT + NAMES, y, RIGHT - LEFT - NAMES - WORDS, high)
    step_axis(axes, 0, max(lane.stop for lane in plan.lanes), label=True)
    axes.set_ylim(len(lanes) - 0.4, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    thinned = False
    for row, lane in enumerate(lanes):
        look = arm_looks.get(lane.name, TRUNK_LOOK)
        thinned |= draw_lane(axes, row, lane, look)
        centre = y + (row + 0.6) / (len(lanes) + 0.2) * high
        write_beside(page, lane, centre=centre, look=look, tall=high / len(lanes) > 0.34)
    draw_forks(axes, lanes)
    if thinned:
        words = "Marks that would touch are left out."
        page.write(RIGHT - WORDS + INSET, y + high + 0.14, words, 7, color=SOFT)
    return page


def lane_key(page: Page, y: float, words: Mapping[str, str] = KEY) -> float:
    """What the marks mean, in a row 0.2 inches high; returns its bottom edge."""
    axes = page.axes(LEFT, y, RIGHT - LEFT, 0.2)
    axes.set_axis_off()
    axes.set(xlim=(0, RIGHT - LEFT), ylim=(0, 1))
    x = 0.1
    for kind, text in words.items():
        if kind == "gram":
            axes.plot([x - 0.08, x + 0.12], [0.5, 0.5], color=SOFT, linewidth=5, alpha=0.35, solid_capstyle="butt")
        else:
            axes.plot([x], [0.5], linestyle="none", **{"color": SOFT, **MARKS[kind]})
        axes.text(x + 0.15, 0.46, text, fontsize=8, color=SOFT, va="center")
        x += 0.42 + text_width(text, 8)
    return y + 0.2


def write_beside(page: Page, lane: Lane, *, centre: float, look: Look, tall: bool) -> None:
    """The lane's name on the left, who teaches and what anchors it on the right."""
    page.write(
        LEFT, centre + 0.04, shorten(lane.name, NAMES - 0.25, 9, weight="bold"), 9, weight="bold", color=look.colour
    )
    x, size, lines = RIGHT - WORDS + INSET, 7.5, 3 if tall else 2
    text = wrap(lane.words, WORDS - INSET, size, lines=lines)
    page.flow(x, centre - 0.07 * len(text), text, size, color=SOFT, leading=1.3)


def draw_lane(axes: Axes, row: int, lane: Lane, look: Look) -> bool:
    """One line with all that happens on it; returns whether marks were left out."""
    axes.plot([lane.start, lane.stop], [row, row], color=look.colour, linewidth=1.6, solid_capstyle="butt", zorder=3)
    if lane.gram_start is not None:
        on = [max(lane.gram_start, lane.start), lane.stop]
        axes.plot(on, [row, row], color=look.colour, linewidth=6, alpha=0.3, solid_capstyle="butt", zorder=2)
    thinned = False
    marks = {
        "state": (lane.states, APART),
        "evaluation": (lane.evaluations, APART),
        "frozen": (lane.frozen, APART),
        "gram_update": (lane.renewals, 3 * APART),
        "gram_start": ([step for step in [lane.gram_start] if step is not None and step >= lane.start], APART),
    }
    for kind, (steps, apart) in marks.items():
        shown = _apart(axes, steps, apart)
        thinned |= len(shown) < len(steps)
        above = -0.12 if kind == "evaluation" else 0.12 if kind == "state" else 0
        how = {"color": look.colour, **MARKS[kind]}
        axes.plot(shown, [row + above] * len(shown), linestyle="none", zorder=5 if above else 6, **how)
    return thinned


def draw_forks(axes: Axes, lanes: Sequence[Lane]) -> None:
    """From each parent's line, or from the top where that is on an earlier page, down to what forks from it."""
    rows = {lane.name: row for row, lane in enumerate(lanes)}
    for lane in lanes:
        if lane.parent is None:
            continue
        ends = [rows.get(lane.parent, -0.6), rows[lane.name]]
        axes.plot([lane.start] * 2, ends, color=FAINT, linewidth=0.7, linestyle=(0, (2, 2)), zorder=1)
        axes.plot([lane.start], [rows[lane.name]], linestyle="none", zorder=7, **MARKS["fork"])


def _apart(axes: Axes, steps: Sequence[int], apart: float) -> Sequence[int]:
    """Every n-th of the steps, so that they lie at least `apart` inches from one another."""
    if len(steps) < 2:
        return steps
    low, high = axes.get_xlim()
    inches = (steps[-1] - steps[0]) / (high - low) * axes.get_position().width * WIDTH
    return steps[:: max(1, int(np.ceil(apart * (len(steps) - 1) / inches)))]


# --- how values move


def _values_page(plan: Timeline, titles: Sequence[str], arm_looks: Mapping[str, Look], *, first: bool) -> Page:
    caption = (
        "Values in each step, along the trunk and each arm; a line is named on its right by the arms that follow it."
    )
    page = new_page("What changes along the way" + ("" if first else ", continued"), caption)
    panels = grid(page, len(titles), top=TOP + 0.8, across=ACROSS, down=DOWN, beside=BESIDE)
    last = max(lane.stop for lane in plan.lanes)
    for place, (axes, title) in enumerate(zip(panels, titles, strict=True)):
        step_axis(axes, 0, last, label=place >= len(titles) - ACROSS)
        scaled(axes.yaxis, ticks=5)
        axes.yaxis.set_major_formatter(FuncFormatter(_short))
        titled(axes, title, "")
        _curves(axes, plan.changing[title], arm_looks, last=last)
        for fork in {lane.start for lane in plan.lanes if lane.parent is not None}:
            axes.axvline(fork, color=HAIR, linewidth=0.7, linestyle=(0, (2, 2)), zorder=1)
    return page


def _short(value: float, _position: int | None = None) -> str:
    """A tick that is narrow also where it is small."""
    return plain(value) if value == 0 or abs(value) >= 1e-3 else f"{value:.3g}".replace("e-0", "e-")


def _curves(axes: Axes, curves: Sequence[Curve], arm_looks: Mapping[str, Look], *, last: int) -> None:
    ends = []
    alone, most = len(curves) == 1, max(curves, key=lambda curve: len(curve.arms))
    shown = [one for curve in curves for one in curve.values if one is not None]
    leap = 0 if last <= STAIRS_UP_TO else LEAP * (max(shown) - min(shown))
    for curve in curves:
        look = TRUNK_LOOK if alone else arm_looks[curve.arms[0]]
        colour = INK if alone else look.colour
        steps, values = corners(curve, leap=leap)
        own = int(np.searchsorted(steps, curve.begin))
        for part, line in (
            (slice(own + 1), {"color": INK if alone else TRUNK_COLOUR, "zorder": 3}),
            (slice(own, None), {"color": colour, "linestyle": look.dash, "zorder": 4}),
        ):
            axes.plot(steps[part], values[part], linewidth=1.3, **line)
        if np.isfinite(values[-1]):
            others = "all arms" if alone and len(curve.arms) > 1 else "all others" if curve is most else ""
            ends.append((curve.stop, float(values[-1]), _named(curve.arms, otherwise=others), colour))
    axes.margins(y=0.08)
    axes.autoscale_view(scalex=False)
    _name(axes, ends)


def corners(curve: Curve, *, leap: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values [n] of its corners: a change of more than `leap` from one step to the next is upright."""
    steps = np.array([*curve.steps, curve.stop])
    values = np.array([np.nan if one is None else one for one in (*curve.values, curve.values[-1])], float)
    after = 1 + np.flatnonzero((np.diff(steps) == 1) & (np.abs(np.diff(values)) > leap))
    return np.insert(steps, after, steps[after]), np.insert(values, after, values[after - 1])


def _named(arms: Sequence[str], *, otherwise: str) -> str:
    """The names of the arms, where there is room for them, else other words, else as many as there is room for."""
    room = BESIDE - 0.12
    if otherwise == "all arms" or (otherwise and text_width(", ".join(arms), 7) > room):
        return otherwise
    count = len(arms)
    while count > 1 and text_width(", ".join(arms[:count]) + f" +{len(arms) - count}", 7) > room:
        count -= 1
    return ", ".join(arms[:count]) + (f" +{len(arms) - count}" if count < len(arms) else "")


def _name(axes: Axes, ends: Sequence[tuple[int, float, str, str]]) -> None:
    """Names right of the panel at the height of the lines' ends, kept apart, with a hair to the end."""
    low, high = axes.get_ylim()
    tall = axes.get_position().height * HEIGHT
    size = 7.0 if len(ends) * 0.13 <= tall else 6.0
    step = 0.018 * size / tall
    room = int(1 / step)
    ordered = sorted(ends, key=lambda end: end[1])
    if len(ordered) > room:
        ordered = [ordered[place] for place in np.linspace(0, len(ordered) - 1, room).round().astype(int)]
        titled(axes, axes.get_title(loc="left"), f"{room} of {len(ends)} lines are named")
    heights = _kept_apart([(value - low) / (high - low) for _, value, _, _ in ordered], step)
    right = axes.get_xlim()[1]
    for (stop, value, text, colour), height in zip(ordered, heights, strict=True):
        spot = {"xy": (stop, value), "xycoords": "data", "xytext": (1.03, height), "textcoords": "axes fraction"}
        line = {"arrowstyle": "-", "color": FAINT, "linewidth": 0.4, "shrinkA": 1, "shrinkB": 0, "relpos": (0, 0.5)}
        far = abs(height - (value - low) / (high - low)) > step / 2 or stop < 0.9 * right
        axes.annotate(
            shorten(text, BESIDE - 0.12, size), **spot, fontsize=size, color=colour, va="center",
            arrowprops=line if far else None, annotation_clip=False,
        )  # fmt: skip


def _kept_apart(heights: Sequence[float], step: float) -> list[float]:
    """Rising heights moved as little as need be, so that each is at least `step` above the one before."""
    placed = list[float]()
    for height in heights:
        placed.append(max(height, placed[-1] + step) if placed else height)
    over = max(0.0, placed[-1] - 1.0) if placed else 0.0
    for place in reversed(range(len(placed))):
        top = 1.0 if place == len(placed) - 1 else placed[place + 1] - step
        placed[place] = min(placed[place], top) if over else placed[place]
    return placed
