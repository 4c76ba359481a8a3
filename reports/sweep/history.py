"""How a sweep went: each objective trial by trial with the best so far, and what the pruner saw."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from common.drawing import shorten
from reports.axes import scaled, step_axis, titled
from reports.page import BOTTOM, FAINT, INK, LEFT, RIGHT, SOFT, TOP, WARN, Page, new_page
from reports.sweep.read import Goal, Sweep

DOT, LINE = "#56B4E9", "#0072B2"


def history_page(sweep: Sweep) -> Page:
    """A panel for each objective, and one for the measure that trials are pruned by."""
    page = new_page(
        "History",
        "Dots: trials in the order in which they were begun; line: the best so far; orange marks: pruned or failed "
        "there." + (" Last panel: what the pruner saw, pruned trials in orange." if sweep.pruned_by else ""),
    )
    panels = len(sweep.goals) + (sweep.pruned_by is not None)
    columns = 1 if panels == 1 else 2
    rows, gap, left, top = -(-panels // columns), 0.7, LEFT + 0.65, TOP + 0.85
    wide = (RIGHT - left - gap * (columns - 1)) / columns
    high = (BOTTOM - 0.45 - top - gap * (rows - 1)) / rows
    for number in range(panels):
        row, column = divmod(number, columns)
        axes = page.axes(left + column * (wide + gap), top + row * (high + gap), wide, high)
        if number < len(sweep.goals):
            _trials(axes, sweep, sweep.goals[number])
        elif sweep.pruned_by is not None:
            _seen(axes, sweep, sweep.pruned_by)
    return page


def _trials(axes: Axes, sweep: Sweep, goal: Goal) -> None:
    titled(
        axes,
        shorten(goal.title, 3, 9, weight="bold"),
        goal.better,
    )
    scaled(axes.yaxis, ticks=5)
    done = [(trial.number, trial.values[goal.name].value * goal.scale) for trial in sweep.complete]
    if done:
        x, y = np.array(done).T
        best = (np.maximum if goal.maximize else np.minimum).accumulate(y)
        axes.step([*x, max(len(sweep.trials) - 1, x[-1])], [*best, best[-1]], where="post", color=LINE, linewidth=1.3)
        axes.scatter(x, y, s=18, color=DOT, linewidths=0, zorder=3)
    lost = [trial.number for trial in sweep.trials if trial.state in ("pruned", "failed")]
    axes.scatter(lost, [0.02] * len(lost), s=16, marker="x", color=WARN, linewidths=0.9, clip_on=False,
                 transform=axes.get_xaxis_transform(), zorder=4)  # fmt: skip
    for arm, values in sweep.references.items():
        if goal.name in values:
            axes.axhline(values[goal.name].value * goal.scale, color=INK, linewidth=0.8, linestyle=(0, (4, 2)))
            axes.text(1.0, values[goal.name].value * goal.scale, shorten(arm, 1, 7), fontsize=7, color=INK, ha="right",
                      va="bottom", transform=axes.get_yaxis_transform())  # fmt: skip
    axes.set_xlim(-0.5, max(len(sweep.trials), 1) - 0.5)
    axes.set_xlabel("trial")
    axes.set_ylabel(goal.shown_unit)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))


def _seen(axes: Axes, sweep: Sweep, goal: Goal) -> None:
    titled(axes, f"pruned by {shorten(goal.title, 3, 9, weight='bold')}", goal.label)
    scaled(axes.yaxis, ticks=5)
    for trial in sweep.trials:
        if not trial.shown or trial.same_as is not None:
            continue
        steps = sorted(trial.shown)
        values = [trial.shown[step] * goal.scale for step in steps]
        pruned = trial.state == "pruned"
        colour, order = (WARN, 3) if pruned else (FAINT, 2)
        axes.plot(steps, values, color=colour, linewidth=1.0 if pruned else 0.8, alpha=0.8, zorder=order)
        axes.scatter(
            steps[-1:], values[-1:], s=14, color=colour, marker="x" if pruned else "o", linewidths=1, zorder=order
        )
    if not any(trial.shown for trial in sweep.trials):
        axes.text(0.5, 0.5, "no evaluation on the way yet", transform=axes.transAxes, ha="center", color=SOFT)
    steps = [step for trial in sweep.trials for step in trial.shown] or [0]
    step_axis(axes, min(steps), max(steps), label=True)
    axes.set_ylabel(goal.shown_unit)
