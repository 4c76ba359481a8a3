"""Page one of a sweep: what was searched, which trials no other beats, and how far to trust them."""

from __future__ import annotations

from collections.abc import Sequence

from common.drawing import shorten, wrap
from reports.page import BOTTOM, FAINT, HAIR, INK, LEFT, RIGHT, SOFT, TOP, WARN, WARN_FILL, Page, new_page
from reports.sweep.read import Goal, Sweep, Trial
from reports.tables import Estimate

ROW, SIZE, SMALL = 0.36, 8.5, 7.0
MOST = 9  # columns of settings; the table that stands beside the report has all


def front_page(sweep: Sweep) -> Page:
    """The page."""
    page = new_page()
    y = page.flow(LEFT, TOP - 0.1, wrap(sweep.question or sweep.name, RIGHT - LEFT, 17, weight="bold", lines=2), 17,
                  leading=1.22, weight="bold")  # fmt: skip
    y = page.flow(LEFT, y + 0.08, wrap(" ".join(summary(sweep)), RIGHT - LEFT, 9, lines=5), 9, color=SOFT)
    y = _cautions(page, cautions(sweep), y + 0.14) + 0.3
    if not sweep.members:
        page.write(LEFT, y + 0.1, "No trial has come to its end yet.", 10, color=SOFT)
        return page
    several = len(sweep.goals) > 1
    title = "THE FRONT: TRIALS THAT NO OTHER BEATS IN EVERY OBJECTIVE" if several else "THE BEST TRIAL"
    page.write(LEFT, y, title, 6.5, color=FAINT, weight="bold")
    _table(page, sweep, y + 0.12)
    return page


def summary(sweep: Sweep) -> list[str]:
    """What was done, in sentences."""
    goals = ", ".join(f"{goal.name} ({goal.better})" for goal in sweep.goals)
    repeated = sum(trial.same_as is not None for trial in sweep.trials)
    counts = [
        (sweep.count("complete") - repeated, "ran to their end"),
        (sweep.count("pruned"), "pruned"),
        (sweep.count("failed"), "failed"),
        (sweep.count("running") + sweep.count("broken off"), "unfinished"),
        (repeated, "with the settings of an earlier one, not run again"),
    ]
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    by = f", by {sweep.pruned_by.name}" if sweep.pruned_by else ""
    seeds = f"{len(sweep.seeds)} seeds" if len(sweep.seeds) > 1 else "one seed"
    return [
        f"Objectives: {goals}.",
        f"{len(sweep.trials)} of {sweep.wanted} trials on {seeds}: {told or 'none yet'}.",
        f"Proposed by {sweep.sampler}, pruned by {sweep.pruner}{by}.",
    ]


def cautions(sweep: Sweep) -> list[str]:
    """What must be known before the table is believed."""
    count, found = len(sweep.complete), []
    if sweep.confirmed:
        seeds = ", ".join(map(str, sweep.fresh_seeds))
        found.append(
            f"The best of {count} trials is optimistic: it was chosen for its luck, too. The orange values are those "
            f"of fresh seeds ({seeds}), which chose nothing: believe these."
        )
    else:
        found.append(
            f"The best of {count} trials is optimistic: it was chosen for its luck, too, and the intervals do not know "
            "of the choice. Train the front again on seeds that chose nothing: --confirm 3, or the files in front/."
        )
    if len(sweep.seeds) == 1:
        found.append("One seed: intervals are over evaluation images alone, and silent about other seeds.")
    failed = [f"{trial.label} ({trial.reason})" for trial in sweep.trials if trial.reason]
    if failed:
        found.append(f"Failed: trial {'; '.join(failed[:3])}{f'; and {len(failed) - 3} more' if failed[3:] else ''}.")
    return found


def setting(value: object) -> str:
    """A value of a setting, short."""
    return "null" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _cautions(page: Page, texts: Sequence[str], y: float) -> float:
    lines = [wrap(text, RIGHT - LEFT - 0.35, 8, lines=2) for text in texts]
    height = 0.3 + sum(len(one) * 8 * 1.38 / 72 + 0.04 for one in lines)
    page.box(LEFT, y, RIGHT - LEFT, height, fill=WARN_FILL)
    page.box(LEFT, y, 0.05, height, fill=WARN)
    page.write(LEFT + 0.18, y + 0.17, "READ WITH CARE", 6.5, color=WARN, weight="bold")
    below = y + 0.22
    for one in lines:
        below = page.flow(LEFT + 0.18, below, one, 8) + 0.04
    return y + height


def _table(page: Page, sweep: Sweep, y: float) -> None:
    """A row for each member: its settings, then its objectives with intervals, those of fresh seeds below them."""
    settings = [*sweep.space][:MOST]
    objective = 1.35 if len(sweep.goals) <= 3 or sweep.confirmed else 1.1
    left, wide = LEFT + 0.75, RIGHT - LEFT - 0.75 - objective * len(sweep.goals)
    each = wide / max(len(settings), 1)
    starts = [left + each * number for number in range(len(settings))]
    ends = [RIGHT - objective * number for number in range(len(sweep.goals))][::-1]
    page.write(LEFT, y + 0.3, "trial", SIZE, color=SOFT)
    for x, key in zip(starts, settings, strict=True):
        above, _, leaf = key.rpartition(".")
        page.write(x, y + 0.16, shorten(above, each - 0.1, SMALL), SMALL, color=FAINT)
        page.write(x, y + 0.3, shorten(leaf, each - 0.1, SIZE), SIZE, color=SOFT)
    for x, goal in zip(ends, sweep.goals, strict=True):
        above, _, leaf = goal.name.replace("/", ".").rpartition(".")
        unit = f", {goal.shown_unit}" if goal.shown_unit else ""
        page.write(x, y + 0.16, shorten(above, objective - 0.1, SMALL), SMALL, color=FAINT, ha="right")
        page.write(x, y + 0.3, shorten(leaf + unit, objective - 0.1, SIZE), SIZE, color=SOFT, ha="right")
    y += 0.38
    page.rule(LEFT, RIGHT, y, colour=INK)
    row = ROW + 0.2 * bool(sweep.confirmed)
    room = int((BOTTOM - y - 0.15) / row)
    for trial in sweep.members[:room]:
        _row(page, sweep, trial, y, columns=[*zip(starts, settings, strict=True)], ends=ends)
        y += row
        page.rule(LEFT, RIGHT, y, colour=HAIR)
    if left_out := sweep.members[room:]:
        page.write(LEFT, y + 0.16, f"and {len(left_out)} more in sweep.csv", SMALL, color=SOFT)


def _row(
    page: Page, sweep: Sweep, trial: Trial, y: float, *, columns: Sequence[tuple[float, str]], ends: Sequence[float]
) -> None:
    base = y + 0.18
    page.write(LEFT, base, trial.label, SIZE, weight="bold")
    for x, key in columns:
        text = setting(trial.params[key]) if key in trial.params else "–"
        page.write(x, base, shorten(text, 1.2, SIZE), SIZE, color=INK if key in trial.params else FAINT)
    confirmed = sweep.confirmed.get(trial.arm, {})
    for x, goal in zip(ends, sweep.goals, strict=True):
        page.write(x, base, goal.written(trial.values[goal.name].value), SIZE, ha="right", weight="bold")
        page.write(x, base + 0.13, bracket(goal, trial.values[goal.name]), SMALL, ha="right", color=SOFT)
        if goal.name in confirmed:
            again = confirmed[goal.name]
            text = f"{goal.written(again.value)} {bracket(goal, again)}"
            page.write(x, base + 0.29, text, SMALL, ha="right", color=WARN)


def bracket(goal: Goal, estimate: Estimate) -> str:
    """ "[61.2, 64.0]", or nothing where there is no interval."""
    return f"[{goal.written(estimate.low)}, {goal.written(estimate.high)}]" if estimate.over else ""
