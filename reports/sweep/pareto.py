"""The Pareto front of a sweep: every pair of objectives, each trial a dot, the front with its intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise

import numpy as np
from matplotlib.axes import Axes

from reports.axes import scaled
from reports.estimates import Estimate
from reports.labels import Label, place
from reports.page import BOTTOM, FAINT, HEIGHT, INK, LEFT, RIGHT, SOFT, TOP, WARN, WIDTH, Page, new_page
from reports.sweep.read import Goal, Sweep

FRONT, OTHER = "#0072B2", "#b8b8b8"
MOST_PAIRS = 6
NOTHING = "No trial has come to its end yet."
REACH = 0.35  # of the dots' span: how far the intervals may stretch an axis
AIR = 0.4  # inches that a title may be longer than its axis
RANKED = 24  # trials of a sweep with one objective


def pareto_page(sweep: Sweep) -> Page:
    """The page: pairs of objectives, or for one objective the best trials in order."""
    if len(sweep.goals) == 1:
        return _ranking(sweep)
    page = new_page(
        "Pareto front",
        "Blue: trials that no other beats in every objective, with 95 % intervals (arrows: they go on); grey: all "
        "others that ran to their end. What is sought is right and up: axes of what shall be low run backwards."
        + (" Orange: the same settings on fresh seeds." if sweep.confirmed else "")
        + (" Black squares: the experiment's own arms." if sweep.references else ""),
    )
    if not sweep.complete:
        page.write(LEFT, TOP + 1.0, NOTHING, 10, color=SOFT)
        return page
    pairs = [*combinations(sweep.goals, 2)][:MOST_PAIRS]
    columns = 1 if len(pairs) == 1 else 3 if len(pairs) > 2 else 2
    rows = -(-len(pairs) // columns)
    gap, left, top = 0.75, LEFT + 0.65, TOP + 0.85
    wide = (RIGHT - left - gap * (columns - 1)) / columns
    high = (BOTTOM - 0.45 - top - gap * (rows - 1)) / rows
    for number, (across, up) in enumerate(pairs):
        row, column = divmod(number, columns)
        axes = page.axes(left + column * (wide + gap), top + row * (high + gap), wide, high)
        _panel(axes, sweep, across, up)
    return page


def _panel(axes: Axes, sweep: Sweep, across: Goal, up: Goal) -> None:
    """One pair of objectives."""
    box = axes.get_position()
    for axis, goal, room in ((axes.xaxis, across, box.width * WIDTH), (axes.yaxis, up, box.height * HEIGHT)):
        scaled(axis, ticks=5)
        axis.set_label_text(goal.axis(room + AIR))
    front = {trial.arm for trial in sweep.members}
    points = {trial.arm: _point(trial.values, across, up) for trial in sweep.complete}
    others = np.array([point for arm, point in points.items() if arm not in front]).reshape(-1, 2)
    axes.scatter(*others.T, s=16, color=OTHER, linewidths=0, zorder=2)
    labels, many = [], len(sweep.members) > 6
    for trial in sweep.members:
        x, y = points[trial.arm]
        _cross(axes, sweep, trial.values, (across, up), colour=FRONT, many=many)
        axes.scatter([x], [y], s=38, color=FRONT, edgecolors="white", linewidths=0.6, zorder=5)
        labels.append(Label(trial.label, x, y, FRONT, size=8, weight="bold", required=len(sweep.members) <= 12))
        fresh = sweep.confirmed.get(trial.arm, {})
        if across.name in fresh and up.name in fresh:
            again = _point(fresh, across, up)
            axes.plot([x, again[0]], [y, again[1]], color=WARN, alpha=0.4 if many else 1,
                      linewidth=0.7, linestyle=(0, (3, 2)), zorder=3)  # fmt: skip
            _cross(axes, sweep, fresh, (across, up), colour=WARN, many=many)
            axes.scatter(*again, s=30, facecolor="white", edgecolors=WARN, linewidths=1.2, zorder=6)
    for arm, values in sweep.references.items():
        if across.name in values and up.name in values:
            x, y = _point(values, across, up)
            axes.scatter([x], [y], s=30, color=INK, marker="s", zorder=6)
            labels.append(Label(arm, x, y, INK, size=8, weight="bold"))
    if len(sweep.goals) == 2 and sweep.members:
        _stairs(axes, np.array([points[trial.arm] for trial in sweep.members]), across, up)
    axes.set(xlim=_limits(sweep, across), ylim=_limits(sweep, up))
    if not across.maximize:
        axes.invert_xaxis()
    if not up.maximize:
        axes.invert_yaxis()
    place(axes, labels, np.array([*points.values()]).reshape(-1, 2))


def _limits(sweep: Sweep, goal: Goal) -> tuple[float, float]:
    """The ends of an axis: around all dots, and so far along the intervals that the dots stay apart."""
    shown = [*(t.values for t in sweep.complete), *sweep.references.values(), *sweep.confirmed.values()]
    found = [values[goal.name] for values in shown if goal.name in values]
    dots = np.array([one.value for one in found]) * goal.scale
    ends = np.array([[one.low, one.high] for one in found]) * goal.scale
    low, high = dots.min(), dots.max()
    span = high - low or abs(high) or 1.0
    low = max(np.nanmin([low, *ends[:, 0]]), low - REACH * span) - 0.1 * span
    return low, min(np.nanmax([high, *ends[:, 1]]), high + REACH * span) + 0.1 * span


def _stairs(axes: Axes, points: np.ndarray, across: Goal, up: Goal) -> None:
    """The border between what some trial reached and what none did, of two objectives."""
    signs = np.array([1 if goal.maximize else -1 for goal in (across, up)])
    better = points * signs
    order = better[better[:, 0].argsort()]
    steps = [order[0]]
    for before, after in pairwise(order):
        steps += [np.array([before[0], after[1]]), after]
    x, y = (np.array(steps) * signs).T
    axes.plot(x, y, color=FRONT, linewidth=0.8, alpha=0.5, zorder=1)


def _point(values: Mapping[str, Estimate], across: Goal, up: Goal) -> tuple[float, float]:
    return values[across.name].value * across.scale, values[up.name].value * up.scale


def _cross(
    axes: Axes, sweep: Sweep, values: Mapping[str, Estimate], pair: tuple[Goal, Goal], *, colour: str, many: bool
) -> None:
    """Pale bars over both intervals, paler where there are many, with an arrow where the axis cuts one off."""
    x, y = _point(values, *pair)
    wide, alpha = (1.2, 0.14) if many else (2.0, 0.24)
    pale = {"color": colour, "linewidth": wide, "alpha": alpha, "solid_capstyle": "butt", "zorder": 1.5}
    for goal, arrows in zip(pair, ("<>", "v^"), strict=True):
        one, level = values[goal.name], goal is pair[0]
        ends = np.array([one.low, one.high]) * goal.scale
        if not np.isfinite(ends).all():
            continue
        seen = np.clip(ends, *_limits(sweep, goal))
        axes.plot(*((seen, [y, y]) if level else ([x, x], seen)), **pale)
        for end, at, arrow in zip(ends, seen, arrows if goal.maximize else arrows[::-1], strict=True):
            if end != at:
                axes.plot(*(([at], [y]) if level else ([x], [at])), marker=arrow, markersize=5, color=colour,
                          alpha=min(3 * alpha, 1), clip_on=False, zorder=1.5)  # fmt: skip


def _ranking(sweep: Sweep) -> Page:
    """The best trials of one objective, with intervals, the best on top."""
    goal = sweep.goals[0]
    page = new_page("The best trials", f"{goal.label}: the best {RANKED} at most, with 95 % intervals.")
    ranked = sorted(sweep.complete, key=lambda t: t.values[goal.name].value, reverse=goal.maximize)[:RANKED]
    rows: list[tuple[str, Estimate, str]] = []
    for trial in ranked:
        rows.append((trial.label, trial.values[goal.name], FRONT if trial.arm in sweep.front else FAINT))
        if goal.name in sweep.confirmed.get(trial.arm, {}):
            rows.append((f"{trial.label}, fresh seeds", sweep.confirmed[trial.arm][goal.name], WARN))
    rows += [(arm, values[goal.name], INK) for arm, values in sweep.references.items() if goal.name in values]
    if not rows:
        page.write(LEFT, TOP + 1.0, NOTHING, 10, color=SOFT)
        return page
    axes = page.axes(LEFT + 1.4, TOP + 0.8, RIGHT - LEFT - 1.4, min(BOTTOM - TOP - 1.4, 0.24 * len(rows) + 0.2))
    _bars(axes, rows, goal)
    return page


def _bars(axes: Axes, rows: Sequence[tuple[str, Estimate, str]], goal: Goal) -> None:
    scaled(axes.xaxis)
    for height, (_, one, colour) in enumerate(rows):
        value, ends = one.value * goal.scale, np.array([one.low, one.high]) * goal.scale
        if np.isfinite(ends).all():
            axes.plot(ends, [height, height], color=colour, linewidth=1.6, alpha=0.45, solid_capstyle="butt")
        axes.scatter([value], [height], s=26, color=colour, zorder=3)
    axes.set_yticks(range(len(rows)), [label for label, *_ in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(goal.axis(RIGHT - LEFT))
    axes.grid(visible=False, axis="y")
