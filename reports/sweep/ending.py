"""The end of a sweep in a few lines: how its trials went, the front with its values, and how to make sure of it."""

from __future__ import annotations

from collections.abc import Mapping

from reports.estimates import Estimate
from reports.sweep.front import bracket, setting
from reports.sweep.read import Sweep
from reports.words import sentence_list

STATES = ("complete", "pruned", "failed", "running", "broken off")
MOST_MEMBERS = 5


def ending(sweep: Sweep) -> list[str]:
    """Counts, then a line for each member of the front, `MOST_MEMBERS` at most, and each of the experiment's arms."""
    counts = {state: sweep.count(state) for state in STATES}
    repeated = sum(trial.same_as is not None for trial in sweep.trials)
    told = [f"{count} {state}" for state, count in counts.items() if count or state in STATES[:3]]
    told += [f"{repeated} equal to an earlier one"] if repeated else []
    lines = [f"{len(sweep.trials)} of {sweep.wanted} trials: {', '.join(told)}"]
    if not sweep.members:
        return lines
    name = "front" if len(sweep.goals) > 1 else "best"
    members = [
        f"{name}: {trial.arm}: {_values(sweep, trial.arm, trial.values)}; "
        + ", ".join(f"{key}={setting(value)}" for key, value in trial.params.items())
        for trial in sweep.members
    ]
    lines += sentence_list(members, most=MOST_MEMBERS, where=" in sweep.csv")
    lines += [f"to compare with: {arm}: {_values(sweep, arm, own)}" for arm, own in sweep.references.items() if own]
    if not sweep.confirmed:
        lines.append(
            f"The best of {len(sweep.complete)} trials owe a part of their lead to luck: the same command with "
            "--confirm 3 trains the front on 3 fresh seeds."
        )
    return lines


def _values(sweep: Sweep, arm: str, values: Mapping[str, Estimate]) -> str:
    """The objectives with their intervals, and on fresh seeds where these were trained."""
    fresh = sweep.confirmed.get(arm, {})
    said = []
    for goal in sweep.goals:
        unit = f" {goal.shown_unit}" if goal.shown_unit else ""
        for title, one in ((goal.title, values.get(goal.name)), ("on fresh seeds", fresh.get(goal.name))):
            if one is not None:
                said.append(f"{title} {goal.written(one.value)}{unit} {bracket(goal, one)}".strip())
    return ", ".join(said)
