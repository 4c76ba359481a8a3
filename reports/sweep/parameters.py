"""What the settings of a sweep do: their importances, and each objective over each setting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from common.drawing import shorten
from reports.axes import plain, scaled, titled
from reports.page import BOTTOM, INK, LEFT, RIGHT, SOFT, TOP, Page, new_page
from reports.sweep.front import setting
from reports.sweep.read import Goal, Sweep, Trial

BAR = "#0072B2"
COLUMNS = 6  # slices beside one another


def importance_pages(sweep: Sweep) -> list[Page]:
    """For each objective a bar for each setting; no page where too few trials ran to tell."""
    if not sweep.importances:
        return []
    page = new_page(
        "Which settings matter",
        "PED-ANOVA (arXiv 2304.10255): the share of each setting in what sets the best trials apart from all. From few "
        "trials it is a hint, no more; a setting that never varied among the best looks unimportant.",
    )
    gap, left, top = 0.5, LEFT + 1.9, TOP + 1.0
    shown = [goal for goal in sweep.goals if goal.name in sweep.importances]
    wide = (RIGHT - left - gap * (len(shown) - 1)) / len(shown)
    names = sweep.by_importance
    high = min(BOTTOM - 0.4 - top, 0.42 * len(names) + 0.3)
    for number, goal in enumerate(shown):
        axes = page.axes(left + number * (wide + gap), top, wide, high)
        shares = [sweep.importances[goal.name].get(name, 0.0) for name in names]
        axes.barh(range(len(names)), shares, color=BAR, height=0.62)
        axes.set_ylim(len(names) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.set_yticks(range(len(names)), [shorten(name, 1.8, 8) for name in names] if number == 0 else [])
        axes.tick_params(axis="y", labelsize=8, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        scaled(axes.xaxis, ticks=4)
        titled(axes, shorten(goal.title, wide, 9, weight="bold"), "")
        for at, share in enumerate(shares):
            inside = share > 0.85
            where: Any = {"ha": "right", "color": "white"} if inside else {"ha": "left", "color": SOFT}
            axes.text(share - 0.02 if inside else share + 0.02, at, f"{share:.2f}", fontsize=7, va="center", **where)
    return [page]


def slice_pages(sweep: Sweep) -> list[Page]:
    """Each objective over each setting, a few settings a page."""
    names = sweep.by_importance
    groups = [names[at : at + COLUMNS] for at in range(0, len(names), COLUMNS)]
    return [_slices(sweep, group, f" ({number} of {len(groups)})" if len(groups) > 1 else "")
            for number, group in enumerate(groups, 1)]  # fmt: skip


def _slices(sweep: Sweep, names: Sequence[str], which: str) -> Page:
    page = new_page(
        f"Slices: each objective over each setting{which}",
        "Every trial that ran to its end: the later, the darker; ringed are those on the front. What is sought is up. "
        "A slice shows all trials at once, whatever their other settings were.",
    )
    gap, left, top, goals = 0.3, LEFT + 0.75, TOP + 0.85, sweep.goals
    wide = min((RIGHT - left - gap * (len(names) - 1)) / len(names), 3.6)
    high = min((BOTTOM - 0.5 - top - 0.3 * (len(goals) - 1)) / len(goals), 3.2)
    for row, goal in enumerate(goals):
        for column, name in enumerate(names):
            axes = page.axes(left + column * (wide + gap), top + row * (high + 0.3), wide, high)
            _slice(axes, sweep, goal, name)
            axes.tick_params(axis="y", labelleft=column == 0)
            if column == 0:
                unit = f" ({goal.shown_unit})" if goal.shown_unit else ""
                axes.set_ylabel(f"{shorten(goal.title + unit, high + 0.2, 8)}\n{goal.better}")
            if row == len(goals) - 1:
                axes.set_xlabel(shorten(name, wide, 8))
            else:
                axes.tick_params(axis="x", labelbottom=False)
    return page


def _slice(axes: Axes, sweep: Sweep, goal: Goal, name: str) -> None:
    trials = [trial for trial in sweep.complete if name in trial.params]
    places = _places(sweep, name, trials)
    values = [trial.values[goal.name].value * goal.scale for trial in trials]
    scaled(axes.yaxis, ticks=5)
    if everything := [trial.values[goal.name].value * goal.scale for trial in sweep.complete]:
        span = max(np.ptp(everything), 1e-12)
        axes.set_ylim(min(everything) - 0.08 * span, max(everything) + 0.08 * span)
    _scale(axes, sweep.space[name])
    rings = [INK if trial.arm in sweep.front else "none" for trial in trials]
    last = max((trial.number for trial in sweep.complete), default=1)
    if trials:
        shades = colormaps["Blues"](0.25 + 0.7 * np.array([trial.number for trial in trials]) / max(last, 1))
        axes.scatter(places, values, s=22, color=shades, edgecolors=rings, linewidths=0.9, zorder=3)
    if not goal.maximize:
        axes.invert_yaxis()


def _places(sweep: Sweep, name: str, trials: Sequence[Trial]) -> list[float]:
    """Where the values of a setting lie along its axis: numbers as they are, choices in their order."""
    choices = sweep.space[name].get("choices")
    if choices is None:
        return [trial.params[name] for trial in trials]
    order = {repr(choice): float(at) for at, choice in enumerate(choices)}
    return [order.get(repr(trial.params[name]), float("nan")) for trial in trials]


def _scale(axes: Axes, space: Any) -> None:
    """The axis of a setting over its whole range."""
    if (choices := space.get("choices")) is not None:
        axes.set_xlim(-0.6, len(choices) - 0.4)
        axes.xaxis.set_major_locator(FixedLocator(range(len(choices))))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: shorten(setting(choices[round(x)]), 0.8, 7)))
        return
    low, high = space["low"], space["high"]
    if not space.get("log"):
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low))
        scaled(axes.xaxis, ticks=4)
        if (step := space.get("step")) and (high - low) / step < 5.5:
            axes.xaxis.set_major_locator(FixedLocator([*np.arange(low, high + step / 2, step)]))
        return
    room = (high / low) ** 0.05
    axes.set_xscale("log")
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(LogLocator(10, subs=(1.0, 3.0) if high / low < 100 else (1.0,), numticks=6))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.xaxis.set_minor_formatter(NullFormatter())
