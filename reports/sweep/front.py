"""Page one of a sweep: what was searched, which trials no other beats, and how far to trust them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from common.drawing import shorten, text_width, wrap
from common.schema import written
from reports.estimates import Estimate
from reports.page import BOTTOM, FAINT, HAIR, INK, LEFT, RIGHT, SOFT, TOP, WARN, WARN_FILL, Page, new_page
from reports.sweep.read import Goal, Sweep

ROW, SIZE, SMALL = 0.36, 8.5, 7.0
NUMBER, NARROWEST, GAP = 0.6, 0.8, 0.28  # inches: of a trial's number, of a setting's column, left of an objective
MOST_TITLE = 1.8  # inches of an objective's title
OWN = "the experiment's own arm, to compare with"


def front_page(sweep: Sweep, notes: Sequence[str] = ()) -> Page:
    """The page; `notes` are what the tables of the trials give reason to say."""
    page = new_page()
    y = page.flow(LEFT, TOP - 0.1, wrap(sweep.question or sweep.name, RIGHT - LEFT, 17, weight="bold", lines=2), 17,
                  leading=1.22, weight="bold")  # fmt: skip
    y = page.flow(LEFT, y + 0.08, wrap(" ".join(summary(sweep)), RIGHT - LEFT, 9, lines=5), 9, color=SOFT)
    y = _cautions(page, [*cautions(sweep), *notes], y + 0.14) + 0.3
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
    goals = ", ".join(f"{goal.title} ({goal.better})" for goal in sweep.goals)
    repeated = sum(trial.same_as is not None for trial in sweep.trials)
    counts = [
        (sweep.count("complete"), "ran to their end"),
        (sweep.count("pruned"), "pruned"),
        (sweep.count("failed"), "failed"),
        (sweep.count("running") + sweep.count("broken off"), "unfinished"),
        (repeated, "with the settings of an earlier one, not run again"),
    ]
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    by = f", by {sweep.pruned_by.title}" if sweep.pruned_by else ""
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
    if any(goal.fall for goal in sweep.goals):
        found.append(
            "A fall counts from the best of a trial's evaluations, which is the best by luck, too: values that do no "
            "more than scatter have fallen a little, and intervals over images take the best one as given."
        )
    if not sweep.importances:
        found.append(f"{count} trials ran to their end: too few, or too alike, to tell which settings matter.")
    failed = [f"{trial.label} ({trial.reason})" for trial in sweep.trials if trial.reason]
    if failed:
        found.append(f"Failed: trial {'; '.join(failed[:3])}{f'; and {len(failed) - 3} more' if failed[3:] else ''}.")
    return found


def setting(value: object) -> str:
    """A value of a setting, short."""
    return f"{value:.4g}" if isinstance(value, float) else written(value)


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


@dataclass(frozen=True)
class Layout:
    """Where the columns of the table lie: left edges of settings, `each` inches wide, and right edges of objectives."""

    settings: Mapping[str, float]
    goals: Mapping[Goal, float]
    each: float

    @property
    def room(self) -> float:
        """Inches of a row's name and all its settings together."""
        return NUMBER + self.each * max(len(self.settings), 1) - 0.1


def _layout(sweep: Sweep) -> Layout:
    """Objectives get the inches that they need, as many as fit; the most important settings share what is left."""
    goals, edge = dict[Goal, float](), RIGHT
    for goal in sweep.goals:
        if edge - (wide := _width(sweep, goal)) > LEFT + NUMBER + NARROWEST:
            goals[goal], edge = wide, edge - wide
    left = edge
    for goal, wide in goals.items():
        edge += wide
        goals[goal] = edge
    room = left - LEFT - NUMBER
    chosen = sweep.by_importance[: int(room / NARROWEST)]
    each = room / max(len(chosen), 1)
    shown = [key for key in sweep.space if key in chosen]
    return Layout({key: LEFT + NUMBER + each * place for place, key in enumerate(shown)}, goals, each)


def _table(page: Page, sweep: Sweep, y: float) -> None:
    """A row for each member: its settings, then its objectives with intervals, those of fresh seeds below them; the
    experiment's own arms come last."""
    layout = _layout(sweep)
    _head(page, layout, y)
    y += 0.38
    page.rule(LEFT, RIGHT, y, colour=INK)
    row = ROW + 0.3 * bool(sweep.confirmed)
    fits = int((BOTTOM - y - 0.3) / row)
    fits = max(fits - len(sweep.references), min(fits, 1))
    for trial in sweep.members[:fits]:
        page.write(LEFT, y + 0.18, trial.label, SIZE, weight="bold")
        for key, x in layout.settings.items():
            text, colour = (setting(trial.params[key]), INK) if key in trial.params else ("–", FAINT)
            page.write(x, y + 0.18, shorten(text, layout.each - 0.1, SIZE), SIZE, color=colour)
        y = _values(page, sweep, trial.arm, trial.values, layout=layout, y=y, row=row)
    for arm, values in sweep.references.items():
        if y + row < BOTTOM - 0.25:
            page.write(LEFT, y + 0.18, shorten(f"{arm}: {OWN}", layout.room, SIZE), SIZE, color=SOFT)
            y = _values(page, sweep, arm, values, layout=layout, y=y, row=row)
    left_out = [key for key in sweep.space if key not in layout.settings]
    left_out += [goal.title for goal in sweep.goals if goal not in layout.goals]
    if (more := len(sweep.members) - fits) > 0:
        left_out.append(f"{more} more trial{'s' * (more > 1)}")
    if left_out:
        text = f"Left to sweep.csv: {', '.join(left_out)}"
        page.write(LEFT, y + 0.16, shorten(text, RIGHT - LEFT, SMALL), SMALL, color=SOFT)


def _head(page: Page, layout: Layout, y: float) -> None:
    page.write(LEFT, y + 0.3, "trial", SIZE, color=SOFT)
    for key, x in layout.settings.items():
        above, _, leaf = key.rpartition(".")
        page.write(x, y + 0.16, shorten(above, layout.each - 0.1, SMALL), SMALL, color=FAINT)
        page.write(x, y + 0.3, shorten(leaf, layout.each - 0.1, SIZE), SIZE, color=SOFT)
    for goal, x in layout.goals.items():
        above, leaf = _title(goal)
        page.write(x, y + 0.16, above, SMALL, color=FAINT, ha="right")
        page.write(x, y + 0.3, leaf, SIZE, color=SOFT, ha="right")


def _title(goal: Goal) -> tuple[str, str]:
    """Its data set, and its metric with the unit, or parts of its name where no more is known; `MOST_TITLE` at most."""
    above, leaf = goal.dataset, goal.title.removesuffix(f" on {goal.dataset}")
    if leaf == goal.name:
        above, _, leaf = goal.name.replace("/", ".").rpartition(".")
    unit = f", {goal.shown_unit}" if goal.shown_unit else ""
    return shorten(above, MOST_TITLE, SMALL), shorten(leaf + unit, MOST_TITLE, SIZE)


def _values(
    page: Page, sweep: Sweep, arm: str, values: Mapping[str, Estimate], *, layout: Layout, y: float, row: float
) -> float:
    """The objectives of a row whose top edge is `y`; returns its bottom edge."""
    for goal, x in layout.goals.items():
        if one := values.get(goal.name):
            page.write(x, y + 0.18, goal.written(one.value), SIZE, ha="right", weight="bold")
            page.write(x, y + 0.31, bracket(goal, one), SMALL, ha="right", color=SOFT)
        else:
            page.write(x, y + 0.18, "–", SIZE, ha="right", color=FAINT)
        if again := sweep.confirmed.get(arm, {}).get(goal.name):
            page.write(x, y + 0.47, goal.written(again.value), SIZE, ha="right", color=WARN)
            page.write(x, y + 0.59, bracket(goal, again), SMALL, ha="right", color=WARN)
    page.rule(LEFT, RIGHT, y + row, colour=HAIR)
    return y + row


def _width(sweep: Sweep, goal: Goal) -> float:
    """The inches that an objective's column takes, with the gap on its left."""
    above, leaf = _title(goal)
    known = {**{trial.arm: trial.values for trial in sweep.members}, **sweep.references}
    fresh = [values for arm, values in sweep.confirmed.items() if arm in known]
    shown = [values[goal.name] for values in (*known.values(), *fresh) if goal.name in values]
    small = [text_width(text, SMALL) for text in (above, *(bracket(goal, one) for one in shown))]
    large = [text_width(text, SIZE, weight="bold") for text in (leaf, *(goal.written(one.value) for one in shown))]
    return max(small + large) + GAP


def bracket(goal: Goal, estimate: Estimate) -> str:
    """ "[61.2, 64.0]", or nothing where there is no interval."""
    return f"[{goal.written(estimate.low)}, {goal.written(estimate.high)}]" if estimate.over else ""
